"""The fixed phrases in which relto explains decisions, in the reader's language.

Agreements and arrangements bring their own words; these are the program's.
"""

from collections.abc import Mapping

__all__ = [
    "DUTIES",
    "HEADINGS",
    "LANGUAGES",
    "LASTING",
    "LIVES",
    "MOVED",
    "NEEDS",
    "REASONS",
    "WORDS",
]

LANGUAGES = ("en", "ko", "ja")

HEADINGS: Mapping[str, Mapping[str, str]] = {
    "allowed": {"en": "may go", "ko": "제공할 수 있음", "ja": "提供できる"},
    "refused": {"en": "may not go", "ko": "제공할 수 없음", "ja": "提供できない"},
    "item": {"en": "item", "ko": "대상 정보", "ja": "対象情報"},
    "held": {"en": "as held", "ko": "보유 등급", "ja": "保有時の区分"},
    "path": {"en": "path", "ko": "전달 경로", "ja": "伝達経路"},
    "stamped": {"en": "stamped", "ko": "표시 등급", "ja": "表示区分"},
    "protected": {"en": "protected by", "ko": "보호 근거", "ja": "保護の根拠"},
    "articles": {"en": "articles", "ko": "근거 조항", "ja": "根拠条項"},
    "review": {"en": "review", "ko": "검토", "ja": "審査"},
    "no-review": {
        "en": "none: released automatically",
        "ko": "없음: 자동 제공",
        "ja": "なし: 自動提供",
    },
    "officers": {
        "en": "{party}: {count} disclosure officer(s)",
        "ko": "{party}: 공개심사관 {count}명",
        "ja": "{party}: 開示審査官{count}名",
    },
    "duties": {"en": "duties", "ko": "의무", "ja": "義務"},
    "none": {"en": "none", "ko": "없음", "ja": "なし"},
    "why": {"en": "why not", "ko": "거부 사유", "ja": "拒否の理由"},
    "needs": {
        "en": "what would change it",
        "ko": "무엇이 달라져야 하는가",
        "ja": "何が変われば提供できるか",
    },
    "consent": {
        "en": "with the originator's consent",
        "ko": "생산자의 동의에 따라",
        "ja": "作成元の同意により",
    },
    "own-information": {
        "en": "the recipient's own information",
        "ko": "수령자 자신의 정보",
        "ja": "受領者自身の情報",
    },
    "source": {"en": "source", "ko": "출처", "ja": "情報源"},
    "exercise": {"en": "EXERCISE", "ko": "훈련", "ja": "演習"},
}

DUTIES: Mapping[str, Mapping[str, str]] = {
    "receipt_within_h": {
        "en": "confirm receipt within {value} h",
        "ko": "{value}시간 이내에 수령을 확인",
        "ja": "{value}時間以内に受領を確認",
    },
    "return_or_destroy": {
        "en": "return or destroy when no longer needed",
        "ko": "더 이상 필요하지 않으면 반환 또는 파기",
        "ja": "不要となった時は返却または破棄",
    },
    "report_compromise_within_h": {
        "en": "report loss or possible loss within {value} h",
        "ko": "유출 또는 유출 가능성을 {value}시간 이내에 통보",
        "ja": "漏えい又はそのおそれを{value}時間以内に通報",
    },
    "report_compromise_at_once": {
        "en": "report loss or possible loss at once",
        "ko": "유출 또는 유출 가능성을 즉시 통보",
        "ja": "漏えい又はそのおそれを直ちに通報",
    },
}

REASONS: Mapping[str, Mapping[str, str]] = {
    "already-holds": {
        "en": "{to} holds it already",
        "ko": "{to}은(는) 이미 이 정보를 보유함",
        "ja": "{to}は既にこの情報を保有している",
    },
    "recalled": {
        "en": "it was recalled by its originator",
        "ko": "생산자가 회수한 정보임",
        "ja": "作成元が回収した情報である",
    },
    "mark-stale": {
        "en": "its originator gave it another mark, which is not stamped yet",
        "ko": "생산자가 변경한 등급이 아직 표시되지 않음",
        "ja": "作成元が変更した区分がまだ表示されていない",
    },
    "consent-withdrawn": {
        "en": "{originator} refused or withdrew its consent",
        "ko": "{originator}이(가) 동의를 거부하거나 철회함",
        "ja": "{originator}が同意を拒否又は撤回した",
    },
    "consent-expired": {
        "en": "the consent of {originator} has expired",
        "ko": "{originator}의 동의가 만료됨",
        "ja": "{originator}の同意の期限が切れている",
    },
    "not-releasable": {
        "en": "its label does not name every reader on the way",
        "ko": "표지의 열람 가능 대상에 경로상의 모든 열람자가 포함되지 않음",
        "ja": "ラベルの開示先に経路上の全ての閲覧者が含まれていない",
    },
    "no-agreement": {
        "en": "no agreement has a channel from {holder} to {to}",
        "ko": "{holder}에서 {to}(으)로 가는 경로를 정한 협정이 없음",
        "ja": "{holder}から{to}への経路を定める協定がない",
    },
    "third-party-rule": {
        "en": "third-party rule: {holder} may not pass on what {originator} gave it",
        "ko": "제3자 원칙: {holder}은(는) {originator}이(가) 제공한 정보를 넘길 수 없음",
        "ja": "第三者ルール: {holder}は{originator}から受けた情報を渡すことができない",
    },
    "not-in-force": {
        "en": "the agreement, or one that it stands on, is not in force",
        "ko": "협정 또는 그 기초가 되는 협정이 효력이 없음",
        "ja": "協定又はその基礎となる協定が効力を有しない",
    },
    "outside-kind": {
        "en": "items of kind {kind} are not covered",
        "ko": "{kind} 종류의 정보는 대상이 아님",
        "ja": "種別{kind}の情報は対象外である",
    },
    "outside-topic": {
        "en": "off the topics that the article covers",
        "ko": "조항이 다루는 주제를 벗어남",
        "ja": "条項が扱う主題の範囲外である",
    },
    "outside-subject": {
        "en": "off the subject that the article covers",
        "ko": "조항이 다루는 대상을 벗어남",
        "ja": "条項が扱う対象の範囲外である",
    },
    "mark-not-covered": {
        "en": "its mark is not one that may travel",
        "ko": "제공할 수 있는 등급이 아님",
        "ja": "提供できる区分ではない",
    },
    "no-equivalent-mark": {
        "en": "its mark has no equivalent on some leg",
        "ko": "경로의 어느 구간에 상응하는 등급이 없음",
        "ja": "経路のいずれかの区間に対応する区分がない",
    },
    "consent-required": {
        "en": "the article asks for a separate consent of {originator}",
        "ko": "조항에 따라 {originator}의 별도 동의가 필요함",
        "ja": "条項により{originator}の個別の同意が必要である",
    },
    "no-common-path": {
        "en": "its sources may go, but not by one common path",
        "ko": "출처마다 경로는 있으나 공통 경로가 없음",
        "ja": "情報源ごとに経路はあるが、共通の経路がない",
    },
    "error": {
        "en": "deciding failed, and what fails refuses",
        "ko": "판단 중 오류가 발생하여 거부됨",
        "ja": "判断中に障害が生じたため拒否された",
    },
}

NEEDS: Mapping[str, Mapping[str, str]] = {
    "already-holds": {
        "en": "nothing: the recipient holds it already",
        "ko": "없음: 수령자가 이미 보유함",
        "ja": "なし: 受領者が既に保有している",
    },
    "recalled": {
        "en": "nothing: a recall is final; ask {originator} for another item",
        "ko": "없음: 회수는 최종적임; {originator}에 다른 정보를 요청",
        "ja": "なし: 回収は最終的である。{originator}に別の情報を求める",
    },
    "mark-stale": {
        "en": "the new mark must be stamped first",
        "ko": "새 등급을 먼저 표시해야 함",
        "ja": "新しい区分をまず表示する必要がある",
    },
    "consent-withdrawn": {
        "en": "{originator} must grant its consent anew for {what}{leave_out}",
        "ko": "{what}에 대하여 {originator}이(가) 다시 동의해야 함{leave_out}",
        "ja": "{what}について{originator}が改めて同意する必要がある{leave_out}",
    },
    "consent-expired": {
        "en": "{originator} must renew its consent for {what}{leave_out}",
        "ko": "{what}에 대하여 {originator}이(가) 동의를 갱신해야 함{leave_out}",
        "ja": "{what}について{originator}が同意を更新する必要がある{leave_out}",
    },
    "not-releasable": {
        "en": "{originator} must list every reader or consent, for {what}{leave_out}",
        "ko": "{what}에 대하여 {originator}이(가) 열람 대상을 지정하거나 동의해야 함{leave_out}",
        "ja": "{what}について{originator}が開示先に加えるか同意する必要がある{leave_out}",
    },
    "no-agreement": {
        "en": "an agreement with a share clause from {holder} to {to}{leave_out}",
        "ko": "{holder}에서 {to}(으)로의 제공 조항을 둔 협정{leave_out}",
        "ja": "{holder}から{to}への提供条項を持つ協定{leave_out}",
    },
    "third-party-rule": {
        "en": "the consent of {originator} for {what} and {to}{leave_out}",
        "ko": "{what}을(를) {to}에 제공하는 데 대한 {originator}의 동의{leave_out}",
        "ja": "{what}を{to}に提供することへの{originator}の同意{leave_out}",
    },
    "not-in-force": {
        "en": "{agreement} and all it stands on in force (now not in force: {idle})",
        "ko": "{agreement} 및 그 기초·보호 협정이 발효되어야 함 (현재 효력 없음: {idle})",
        "ja": "{agreement}とその基礎・保護の協定が効力を持つこと (現在効力なし: {idle})",
    },
    "outside-kind": {
        "en": "another kind: {cites} covers {covered}",
        "ko": "다른 종류: {cites}의 대상은 {covered}",
        "ja": "別の種別: {cites}の対象は{covered}",
    },
    "outside-topic": {
        "en": "{what} within the topics of {cites}: {covered}{leave_out}",
        "ko": "{what}이(가) {cites}의 주제 안에 있어야 함: {covered}{leave_out}",
        "ja": "{what}が{cites}の主題の範囲内にあること: {covered}{leave_out}",
    },
    "outside-subject": {
        "en": "{what} within the subjects of {cites}: {covered}{leave_out}",
        "ko": "{what}이(가) {cites}의 대상 안에 있어야 함: {covered}{leave_out}",
        "ja": "{what}が{cites}の対象の範囲内にあること: {covered}{leave_out}",
    },
    "mark-not-covered": {
        "en": "a mark of {originator} that {cites} lets travel: {covered}{leave_out}",
        "ko": "{cites}에 따라 제공할 수 있는 {originator}의 등급: {covered}{leave_out}",
        "ja": "{cites}により提供できる{originator}の区分: {covered}{leave_out}",
    },
    "no-equivalent-mark": {
        "en": "a row of equal marks on every leg of {cites}, or a version under another mark",
        "ko": "{cites}의 모든 구간에 상응 등급이 있거나 다른 등급의 정보여야 함",
        "ja": "{cites}の全区間に対応する区分があるか、別の区分の版であること",
    },
    "consent-required": {
        "en": "a consent of {originator} for {what} and {to}, which {cites} asks for",
        "ko": "{cites}에 따라 {what}을(를) {to}에 제공하는 데 대한 {originator}의 동의",
        "ja": "{cites}により{what}を{to}に提供することへの{originator}の同意",
    },
    "no-common-path": {
        "en": "one path that serves every source: leave out a source, or ask for a consent",
        "ko": "모든 출처에 공통되는 경로: 출처를 제외하거나 동의를 요청",
        "ja": "全ての情報源に共通の経路: 情報源を除くか、同意を求める",
    },
    "error": {
        "en": "nothing can be said; the operator must look at the node",
        "ko": "판단할 수 없음; 운영자가 노드를 점검해야 함",
        "ja": "判断できない。運用者がノードを点検する必要がある",
    },
}

WORDS: Mapping[str, Mapping[str, str]] = {
    "item": {"en": "the item", "ko": "이 정보", "ja": "この情報"},
    "source": {"en": "source {id}", "ko": "출처 {id}", "ja": "情報源{id}"},
    "leave-out": {
        "en": ", or leave out {id}",
        "ko": ", 또는 출처 {id}를 제외",
        "ja": "、又は情報源{id}を除く",
    },
}

LIVES: Mapping[str, Mapping[str, str]] = {
    "digest": {
        "en": "digest of the terms",
        "ko": "약정문 다이제스트",
        "ja": "取決め本文のダイジェスト",
    },
    "state": {"en": "state", "ko": "상태", "ja": "状態"},
    "draft": {"en": "draft", "ko": "초안", "ja": "草案"},
    "open": {"en": "open for signature", "ko": "서명을 위하여 개방", "ja": "署名のため開放"},
    "signed": {
        "en": "signed by all, not begun",
        "ko": "전원 서명, 미발효",
        "ja": "全員署名済み、未発効",
    },
    "in-force": {"en": "in force", "ko": "발효 중", "ja": "有効"},
    "suspended": {"en": "suspended", "ko": "정지", "ja": "停止"},
    "withdrawn": {
        "en": "called off before the last signature",
        "ko": "마지막 서명 전에 철회",
        "ja": "最後の署名の前に撤回",
    },
    "ended": {"en": "ended", "ko": "종료", "ja": "終了"},
    "signed-at": {"en": "signed", "ko": "서명", "ja": "署名"},
    "not-signed": {"en": "has not signed", "ko": "미서명", "ja": "未署名"},
    "begins": {"en": "begins", "ko": "발효일시", "ja": "発効日時"},
    "notice": {"en": "notice of termination by", "ko": "종료 통보", "ja": "終了の通告"},
    "rests": {"en": "suspended", "ko": "효력 정지", "ja": "効力停止"},
    "ended-at": {"en": "ended", "ko": "종료일시", "ja": "終了日時"},
    "ends": {
        "en": "ends, if nobody moves",
        "ko": "별도 조치가 없으면 종료",
        "ja": "措置がなければ終了",
    },
    "began": {"en": "enters into force", "ko": "발효", "ja": "発効"},
    "came-to-end": {"en": "comes to its end", "ko": "종료됨", "ja": "終了となる"},
    "made-at": {"en": "made at", "ko": "작성일시", "ja": "作成日時"},
    "takes-effect": {"en": "takes effect at", "ko": "효력 발생일시", "ja": "効力発生日時"},
    "waits": {"en": "waits for the depositary", "ko": "기탁처 접수 대기", "ja": "寄託者の受理待ち"},
}
"""Where an agreement stands."""

MOVED: Mapping[str, Mapping[str, str]] = {
    "opened": {"en": "opened for signature", "ko": "서명 개방", "ja": "署名のための開放"},
    "signed": {"en": "signature", "ko": "서명", "ja": "署名"},
    "withdrawn": {"en": "withdrawal before signature", "ko": "서명 전 철회", "ja": "署名前の撤回"},
    "notified": {
        "en": "notification of completion",
        "ko": "국내절차 완료 통보",
        "ja": "国内手続完了の通告",
    },
    "suspended": {"en": "suspension", "ko": "정지", "ja": "停止"},
    "resumed": {"en": "resumption", "ko": "재개", "ja": "再開"},
    "termination-notified": {"en": "notice of termination", "ko": "종료 통보", "ja": "終了の通告"},
    "termination-suspended": {
        "en": "suspension of its notice",
        "ko": "종료 통보의 효력 정지",
        "ja": "終了通告の効力停止",
    },
    "termination-resumed": {
        "en": "resumption of its notice",
        "ko": "종료 통보의 효력 재개",
        "ja": "終了通告の効力再開",
    },
    "notice-withdrawn": {
        "en": "withdrawal of its notice",
        "ko": "종료 통보의 철회",
        "ja": "終了通告の撤回",
    },
}
"""What a party did to an agreement."""

LASTING: Mapping[str, Mapping[str, str]] = {
    "signature": {
        "en": "It takes effect with the last signature.",
        "ko": "마지막 서명으로 효력이 발생한다.",
        "ja": "最後の署名により効力を生ずる。",
    },
    "copies": {
        "en": "It takes effect when {depositary} has received the signed copies of all.",
        "ko": "{depositary}이(가) 모든 서명본을 접수한 때 효력이 발생한다.",
        "ja": "{depositary}が全ての署名済みの写しを受領した時に効力を生ずる。",
    },
    "notifications": {
        "en": "It takes effect when all have notified {depositary} that their procedures are done.",
        "ko": "모두가 {depositary}에 국내절차의 완료를 통보한 때 효력이 발생한다.",
        "ja": "全てが{depositary}に国内手続の完了を通告した時に効力を生ずる。",
    },
    "date": {
        "en": "It takes effect at {begins_at}, once all have signed.",
        "ko": "모두가 서명한 후 {begins_at}에 효력이 발생한다.",
        "ja": "全てが署名した後、{begins_at}に効力を生ずる。",
    },
    "notice": {
        "en": "Any may end it by notice, given {notice_days} days before.",
        "ko": "누구든지 {notice_days}일 전에 통보하여 종료할 수 있다.",
        "ja": "いずれも、{notice_days}日前の通告により終了させることができる。",
    },
    "notice-at-once": {
        "en": "Any may end it by notice.",
        "ko": "누구든지 통보하여 종료할 수 있다.",
        "ja": "いずれも、通告により終了させることができる。",
    },
    "renews": {
        "en": "It lasts {term_months} months, and again as long unless notice is given.",
        "ko": "{term_months}개월간 유효하며, 종료 통보가 없으면 같은 기간씩 연장된다.",
        "ja": "{term_months}か月間効力を有し、終了の通告がない限り同じ期間ずつ更新される。",
    },
    "lapses": {
        "en": "It lasts {term_months} months, and then lapses.",
        "ko": "{term_months}개월간 유효하고, 그 후 실효한다.",
        "ja": "{term_months}か月間効力を有し、その後失効する。",
    },
}
"""How an agreement begins and ends, sentence by sentence."""
