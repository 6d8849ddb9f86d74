"""The fixed phrases in which relto tells of properties and of chains, in the reader's language."""

from collections.abc import Mapping

__all__ = ["CHAINS", "KINDS", "PROPERTIES"]

PROPERTIES: Mapping[str, Mapping[str, str]] = {
    "only_through": {
        "en": "Nothing of {originator}'s reaches {to} except from {through}",
        "ko": "{originator}의 정보는 {through}을(를) 거치지 않고는 {to}에 이르지 않는다",
        "ja": "{originator}の情報は、{through}を経ずに{to}に届かない",
    },
    "unless_under": {
        "en": ", or under {unless_under}",
        "ko": " ({unless_under}에 따른 경우는 제외)",
        "ja": "({unless_under}による場合を除く)",
    },
    "stays": {
        "en": (
            "What was given under {agreement} stays with its parties unless its originator consents"
        ),
        "ko": "{agreement}에 따라 제공된 정보는 생산자의 동의가 없는 한 그 당사자에게만 머문다",
        "ja": "{agreement}により提供された情報は、作成元の同意がない限り、その当事者にとどまる",
    },
    "within_scope": {
        "en": "Nothing off {scope} travels under {agreement}",
        "ko": "{scope} 밖의 정보는 {agreement}에 따라 전달되지 않는다",
        "ja": "{scope}の範囲外の情報は、{agreement}により伝達されない",
    },
    "held_only_by": {
        "en": "Nobody but {parties} ever comes to hold anything",
        "ko": "{parties} 외에는 누구도 어떤 정보도 보유하게 되지 않는다",
        "ja": "{parties}以外の者が情報を保有することはない",
    },
    "held_under": {
        "en": " under {agreement}",
        "ko": " ({agreement}에 따라)",
        "ja": "({agreement}による)",
    },
    "mark_keeps": {
        "en": "A mark never falls below its equivalent",
        "ko": "비밀등급은 동등한 등급보다 낮아지지 않는다",
        "ja": "秘密区分は同等の区分を下回らない",
    },
    "readers_as_listed": {
        "en": (
            "No one but the originator widens who reads; sources whose reader lists do not meet "
            "make an item for nobody"
        ),
        "ko": (
            "생산자 외에는 누구도 열람자를 넓히지 않으며, 열람자가 겹치지 않는 출처들로 만든 "
            "정보는 누구에게도 제공되지 않는다"
        ),
        "ja": (
            "作成元以外の者が閲覧者を広げることはなく、"
            "閲覧者が重ならない情報源から作られた情報は誰にも提供されない"
        ),
    },
    "possible": {
        "en": "Information of {originator}'s ({scope}) does reach {to}",
        "ko": "{originator}의 정보({scope})는 {to}에 이른다",
        "ja": "{originator}の情報({scope})は{to}に届く",
    },
    "any": {"en": "any", "ko": "모든 정보", "ja": "すべて"},
}

CHAINS: Mapping[str, Mapping[str, str]] = {
    "holds": {"en": "holds", "ko": "지켜짐", "ja": "守られる"},
    "broken": {"en": "BROKEN", "ko": "깨짐", "ja": "破られる"},
    "impossible": {"en": "NOT POSSIBLE", "ko": "불가능", "ja": "不可能"},
    "begins": {
        "en": "{party} has a {kind} of its own, {label}, held as {mark}",
        "ko": "{party}이(가) 자신의 {kind}({label})을(를) {mark}(으)로 보유한다",
        "ja": "{party}が自らの{kind}({label})を{mark}として保有する",
    },
    "gives": {
        "en": (
            "{at}: {party} gives it to {to} under {cites}, protected by {guard}; {to} holds it "
            "as {mark}"
        ),
        "ko": (
            "{at}: {party}이(가) {cites}에 따라, {guard}의 보호 아래 {to}에 제공한다. {to}은(는) "
            "{mark}(으)로 보유한다"
        ),
        "ja": (
            "{at}: {party}が{cites}により、{guard}の保護の下で{to}に提供する。{to}は{mark}"
            "として保有する"
        ),
    },
    "hands": {
        "en": (
            "{at}: {party} gives it to {to}, on the way to {end}, under {cites}, protected by "
            "{guard}; {to} reads it and holds it as {mark}"
        ),
        "ko": (
            "{at}: {party}이(가) {cites}에 따라, {guard}의 보호 아래 {end}(으)로 가는 길에 {to}에 "
            "제공한다. {to}은(는) 이를 열람하고 {mark}(으)로 보유한다"
        ),
        "ja": (
            "{at}: {party}が{cites}により、{guard}の保護の下で、"
            "{end}への途中で{to}に提供する。{to}はこれを閲覧し、{mark}として保有する"
        ),
    },
    "carries": {
        "en": (
            "{at}: {party} sends it by {to} under {cites}, protected by {guard}; {to} carries it "
            "as {mark} and cannot open it"
        ),
        "ko": (
            "{at}: {party}이(가) {cites}에 따라, {guard}의 보호 아래 {to}을(를) 통해 보낸다. "
            "{to}은(는) {mark}(으)로 전달할 뿐 열 수 없다"
        ),
        "ja": (
            "{at}: {party}が{cites}により、{guard}の保護の下で{to}を経て送る。{to}は{mark}"
            "として運ぶが、開けない"
        ),
    },
    "makes": {
        "en": "{party} makes a {kind} of it and marks it {mark}",
        "ko": "{party}이(가) 이를 바탕으로 {kind}을(를) 만들어 {mark}(으)로 표시한다",
        "ja": "{party}がこれを基に{kind}を作り、{mark}と表示する",
    },
    "idle": {
        "en": "can never apply: {cites}",
        "ko": "적용될 수 없는 조항: {cites}",
        "ja": "適用され得ない条項: {cites}",
    },
    "idle-not-in-force": {
        "en": "is not in force",
        "ko": "효력이 없음",
        "ja": "効力がない",
    },
    "idle-no-move": {
        "en": "nothing that anyone can hold is open to it",
        "ko": "그 조항에 해당하는 보유 정보가 있을 수 없음",
        "ja": "その条項に当たる情報を誰も保有し得ない",
    },
    "claim": {
        "en": (
            "No chain that the rules permit breaks what holds here. That does not cover people "
            "who retype what they read, a maker who leaves a source out or marks it too low, or "
            "a stolen key."
        ),
        "ko": (
            "여기서 지켜지는 것은 규칙이 허용하는 어떤 경로로도 깨지지 않는다. 읽은 것을 옮겨 "
            "적는 사람, 출처를 빠뜨리거나 등급을 낮게 표시하는 작성자, 도난된 키는 여기에 "
            "포함되지 않는다."
        ),
        "ja": (
            "ここで守られるものは、規則が許すいかなる経路によっても破られない。"
            "読んだものを書き写す人、情報源を漏らし又は低く表示する作成者、盗まれた鍵は、"
            "これに含まれない。"
        ),
    },
}

KINDS: Mapping[str, Mapping[str, str]] = {
    "report": {"en": "report", "ko": "보고", "ja": "報告"},
    "warning": {"en": "warning", "ko": "경보", "ja": "警報"},
    "assessment": {"en": "assessment", "ko": "평가", "ja": "評価"},
    "imagery": {"en": "piece of imagery", "ko": "영상", "ja": "画像"},
    "rfi": {"en": "request for information", "ko": "정보요구", "ja": "情報要求"},
    "reply": {"en": "reply", "ko": "회신", "ja": "回答"},
    "collection-request": {"en": "collection request", "ko": "수집요청", "ja": "収集要請"},
    "tearline": {"en": "tearline", "ko": "공유본", "ja": "共有版"},
    "capability": {"en": "statement of capability", "ko": "능력 정보", "ja": "能力情報"},
}
