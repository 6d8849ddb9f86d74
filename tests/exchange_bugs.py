"""Planted bugs in the exchange: each a small change of our own code, as a careless hand makes it.

As in `bugs`, but here a patch replaces some words in one function's source; when those words are no
longer there, the bug has to be planted anew, and its test says so.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

import test_consignments
import test_exchange
import test_greetings
import test_quotas
import test_world
from bugs import Bug
from relto import (
    consignments,
    counter,
    courier,
    exchange,
    node,
    peering,
    quotas,
    receiving,
    records,
    releasing,
    sealing,
    trust,
)
from relto.links import greetings

__all__ = ["BUGS"]


def saying(function: Callable[..., Any], old: str, new: str) -> Callable[[], Any]:
    """The patch that makes one function say `new` where its source has `old`, once."""

    @contextmanager
    def patch() -> Iterator[None]:
        assert isinstance(function, FunctionType)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, f"{function.__qualname__} no longer says {old!r}"
        file = function.__code__.co_filename
        whole = compile(source.replace(old, new), file, "exec", dont_inherit=True)
        constants = (c for c in whole.co_consts if isinstance(c, CodeType))
        right = function.__code__
        function.__code__ = next(c for c in constants if c.co_name == function.__name__)
        try:
            yield
        finally:
            function.__code__ = right

    return patch


def _case(test: Any, *values: Any) -> Callable[[], None]:
    return lambda: test(*values)


BUGS: dict[str, Bug] = {
    "an item is forgotten on the hub's 2xx": Bug(
        saying(
            exchange._taken,
            'changed = replace(outgoing, received_bytes=0, state="sent", since=now)',
            "return Effects(with_outgoing(item, index, replace(outgoing, received_bytes=0, "
            'state="sent", since=now)), forget=(outgoing.outbox,))',
        ),
        test_exchange.test_an_item_goes_by_way_of_a_hub_that_reads,
    ),
    "an item is forgotten on the hub's receipt": Bug(
        saying(exchange._result, "    if is_hubs:\n", "    if False:\n"),
        test_exchange.test_a_hubs_receipt_or_a_200_alone_leave_the_item_owed,
    ),
    "the hub may sign the destination's receipt": Bug(
        saying(peering.Peering._results, "party=record.party,", "party=peer,"),
        _case(
            test_exchange.test_a_forged_receipt_is_refused_and_changes_nothing,
            "the hub signs the destination's receipt",
        ),
    ),
    "a result is taken from anybody on the path": Bug(
        saying(
            exchange._result,
            "if event.sender != path[1] or record.party not in path[1:]:",
            "if record.party not in path[1:]:",
        ),
        _case(
            test_exchange.test_a_foreign_result_is_refused,
            "from a node that is not next on the path",
            "sent",
        ),
    ),
    "an approval of another path counts": Bug(
        saying(records.Approval.is_for, "and self.path == way.path", ""),
        _case(test_exchange.test_an_approval_of_something_else_is_refused, "another path"),
    ),
    "an approval of another mark counts": Bug(
        saying(records.Approval.is_for, "and self.legs == way.legs", ""),
        _case(test_exchange.test_an_approval_of_something_else_is_refused, "another mark"),
    ),
    "what changed while it waited is released unreviewed": Bug(
        saying(exchange._approve, "if proposal != outgoing.proposal:", "if False:"),
        test_exchange.test_a_proposal_that_changed_is_reviewed_anew,
    ),
    "an approval of an earlier review counts": Bug(
        saying(exchange._approve, "if not outgoing.since <= approval.at <= now:", "if False:"),
        _case(
            test_exchange.test_an_approval_is_signed_between_the_proposal_and_now,
            "2015-01-04T23:59:59Z",
            test_exchange.OURS,
        ),
    ),
    "what came under another agreement goes on under this one": Bug(
        saying(
            consignments.Consignment.holding_of_sender, "if shown and not citations:", "if False:"
        ),
        test_consignments.test_what_was_given_under_another_agreement_does_not_go_on_under_this_one,
    ),
    "who leaves a digest out is not compared": Bug(
        saying(
            receiving._check_again,
            "if release.agreements.keys() != "
            "{Citation.parse(c).agreement for c in release.basis.values()}:",
            "if False:",
        ),
        _case(test_consignments.test_a_hub_that_lies_is_caught, "no version of the agreement"),
    ),
    "two lanes carry one row": Bug(
        saying(courier.Courier._lane, "self.hands.take_up(numbers)", "pass"),
        test_exchange.test_one_row_is_in_one_lanes_hands_at_a_time,
    ),
    "the same officer counts twice": Bug(
        saying(exchange._approve, "if event.officer.name in", "if None in"),
        test_exchange.test_a_release_takes_two_different_officers_where_two_are_asked_for,
    ),
    "two approvals of one officer count twice on arrival": Bug(
        saying(
            receiving._lacks_approval,
            "len(consignment.officers) < needed",
            "len(consignment.approval_envelopes) < needed",
        ),
        _case(test_consignments.test_a_hub_that_lies_is_caught, "one officer approves twice"),
    ),
    "the receiver trusts the sender's decision": Bug(
        saying(
            receiving.arrive, "codes = _check_again(view, consignment, label, now)", "codes = ()"
        ),
        _case(
            test_exchange.test_the_receiver_decides_for_itself_and_refuses_with_a_signed_reason,
            "a lower mark on the second leg",
        ),
    ),
    "nothing is decided again at dispatch": Bug(
        saying(
            exchange._dispatch,
            "codes = decision.codes",
            "state, codes = outgoing.state, ()",
        ),
        _case(
            test_exchange.test_a_decision_that_no_longer_holds_blocks_the_dispatch_and_later_unblocks_it,
            "ready",
        ),
    ),
    "a hold is ignored at dispatch": Bug(
        saying(exchange._dispatch, "if set(proposal.path[1:]) & view.held_to:", "if False:"),
        test_exchange.test_a_hold_blocks_what_is_ready_and_lifts,
    ),
    "a hold looks at the last party alone": Bug(
        saying(exchange._dispatch, "proposal.path[1:]", "proposal.path[-1:]"),
        _case(
            test_exchange.test_a_hold_on_any_party_of_the_path_blocks_the_dispatch,
            frozenset(["USA"]),
            "blocked",
        ),
    ),
    "the receipt goes before the content is here": Bug(
        saying(receiving.arrive, "if not event.stored:", "if False:"),
        test_exchange.test_there_is_no_receipt_before_the_ciphertext_is_whole,
    ),
    "the receipt goes before the content is on the disk": Bug(
        saying(peering.Peering._settle, "self.node.store.blob_sync(release)", "pass"),
        test_exchange.test_a_content_that_was_receipted_survives_a_death,
    ),
    "an item is accepted before its content is on the disk": Bug(
        saying(sealing.Sealing.finish, "self._store.blob_sync(self._name)", "pass"),
        test_exchange.test_a_content_that_was_receipted_survives_a_death,
    ),
    "a repeat is applied again": Bug(
        saying(receiving.arrive, "if known is not None:", "if False:"),
        test_exchange.test_a_replayed_message_is_applied_once_and_answered_alike,
    ),
    "the manifest's signature is not checked": Bug(
        saying(
            trust.Trust.verify,
            "self.verifies(envelope, certificate.public_key(), payload_type=kind.type())",
            'kind.NAME == "manifest" or self.verifies('
            "envelope, certificate.public_key(), payload_type=kind.type())",
        ),
        _case(
            test_consignments.test_a_hub_that_lies_is_caught,
            "the hub's signature under the maker's key id",
        ),
    ),
    "an approval's signature is not checked": Bug(
        saying(records.Approval.is_for, "self.party == party", "True"),
        _case(
            test_consignments.test_a_hub_that_lies_is_caught,
            "another party's officer approves for the hub",
        ),
    ),
    "an approval of the hub need not fit its release": Bug(
        saying(records.Approval.is_for, "and dict(self.basis) == dict(way.basis)", ""),
        _case(
            test_consignments.test_a_hub_that_lies_is_caught,
            "its officer approved another article",
        ),
    ),
    "the key is not checked against the commitment": Bug(
        saying(
            peering.Peering._payload_key,
            "if not hmac.compare_digest(streams.commitment(key), commitment):",
            "if False:",
        ),
        _case(test_consignments.test_a_hub_that_lies_is_caught, "another key"),
    ),
    "the ciphertext is not checked against the manifest": Bug(
        saying(
            peering.Peering._arrival,
            "or hashlib.sha256(ciphertext).hexdigest() != manifest.ciphertext_sha256",
            "",
        ),
        _case(test_consignments.test_a_hub_that_lies_is_caught, "another ciphertext"),
    ),
    "a refusal is not journaled": Bug(
        saying(
            node.Node._happen,
            "await self.submit(lambda tx: self._journal_refused(tx, item, event, refused))",
            "pass",
        ),
        test_exchange.test_all_recipients_are_decided_before_anything_is_kept,
    ),
    "a release is not journaled": Bug(
        saying(releasing.sign_release, "journal=(*effects.journal, entry),", ""),
        test_exchange.test_an_item_goes_directly_and_its_receipt_comes_back,
    ),
    "a refusal of what arrives is not journaled": Bug(
        saying(
            receiving.arrive,
            "Effects(item, (entry,), (Send(event.sender",
            "Effects(item, (), (Send(event.sender",
        ),
        _case(
            test_exchange.test_the_receiver_decides_for_itself_and_refuses_with_a_signed_reason,
            "no approval",
        ),
    ),
    "a release ahead of our clock is taken at once": Bug(
        saying(
            receiving.arrive, "if release.at > now or consignment.manifest.at > now:", "if False:"
        ),
        test_exchange.test_a_release_from_the_future_waits_and_is_not_refused,
    ),
    "the key goes to a hub that must not read": Bug(
        saying(courier.Courier._consignment, "elif past_hub is not None:", "elif False:"),
        test_exchange.test_a_hub_that_does_not_read_sees_exactly_these,
    ),
    "a message that got no answer is forgotten": Bug(
        saying(
            courier.Courier._put_off,
            "tx.outbox_reschedule(",
            "tx.outbox_remove(row.number) and tx.outbox_reschedule(",
        ),
        _case(
            test_world.test_whatever_happens_each_item_arrives_once_or_is_refused_with_a_signed_reason,
            0,
        ),
    ),
    "one transfer more than the limit begins": Bug(
        saying(quotas.Quotas.require_transfer, "if len(rows) >= _share(", "if len(rows) > _share("),
        test_quotas.test_a_peer_has_as_many_half_sent_transfers_as_its_limit_and_no_more,
    ),
    "each half-sent transfer is small enough for itself": Bug(
        saying(quotas.Quotas.require_transfer, "begun + size_bytes > most", "size_bytes > most"),
        test_quotas.test_the_stated_sizes_of_half_sent_transfers_have_a_limit,
    ),
    "a half-sent transfer waits for ever": Bug(
        saying(
            quotas.Quotas.is_idle,
            "setdefault(release, _Transfer(now_ms, 0))",
            "get(release, _Transfer(now_ms, 0))",
        ),
        test_quotas.test_a_range_or_a_new_process_gives_a_transfer_its_time_anew,
    ),
    "the bytes of what is given up stay": Bug(
        saying(peering.Peering._expire, "await self.node.contents.drop(release)", "pass"),
        test_quotas.test_a_half_sent_transfer_is_given_up_after_its_time_and_not_before,
    ),
    "what is given up is not journaled": Bug(
        saying(
            peering.Peering._expire,
            "self.node.journal(tx, entry, self.node.clock.instant())",
            "pass",
        ),
        test_quotas.test_a_half_sent_transfer_is_given_up_after_its_time_and_not_before,
    ),
    "a repeat is counted as one more release": Bug(
        saying(
            peering.Peering._arrival,
            "if before is None or before.incoming_by(release) is None:",
            "if True:",
        ),
        test_quotas.test_what_was_taken_before_is_answered_again_beyond_the_limit,
    ),
    "large ciphertexts do not count": Bug(
        saying(peering.Peering._finish, "quotas.keep(tx, peer, 0, size)", "pass"),
        test_quotas.test_the_bytes_kept_of_a_peer_have_a_limit,
    ),
    "all peers share one count of requests": Bug(
        saying(
            inspect.unwrap(quotas.Quotas.at_work),
            "if self._at_work[peer] >=",
            "if self._at_work.total() >=",
        ),
        test_quotas.test_more_requests_at_work_than_the_limit_are_asked_to_come_back,
    ),
    "a request that ended is still at work": Bug(
        saying(inspect.unwrap(quotas.Quotas.at_work), "self._at_work[peer] -= 1", "pass"),
        test_quotas.test_more_requests_at_work_than_the_limit_are_asked_to_come_back,
    ),
    "all peers share one pace": Bug(
        saying(quotas.Quotas.wait_s, "wait_s(peer, ", 'wait_s("", '),
        test_quotas.test_a_peer_that_asks_too_fast_is_answered_later_and_others_are_not,
    ),
    "what is urgent finds no place where too much waits": Bug(
        saying(node.Node.require_place, "PRECEDENCES.index(precedence) > 1", "True"),
        test_quotas.test_with_too_much_in_the_outbox_our_own_people_are_told_so_but_for_what_is_urgent,
    ),
    "a hub takes in what it cannot get rid of": Bug(
        saying(
            peering.Peering._arrival,
            "if consignment.release.to != self.node.party and known is None:",
            "if False:",
        ),
        test_quotas.test_a_hub_with_too_much_in_its_outbox_takes_what_is_for_itself_and_what_is_urgent,
    ),
    "a receipt waits behind releases": Bug(
        saying(node.Node._enqueue, "precedence = min(precedence, 1)", "pass"),
        _case(
            test_quotas.test_a_receipt_does_not_wait_behind_releases_that_are_not_urgent,
            "ROUTINE",
            1,
        ),
    ),
    "what a peer sends does not rest": Bug(
        saying(inspect.unwrap(quotas.Quotas.lane), "lane.rested_ms = ", "rested_ms = "),
        test_quotas.test_messages_of_one_peer_take_turns_with_a_rest_between_and_others_do_not_wait,
    ),
    "a peer rests where nobody else sends": Bug(
        saying(quotas.Quotas._others_came_lately, "if party != peer", "if True"),
        test_quotas.test_within_a_long_message_a_peer_rests_too_and_for_flash_nothing_does,
    ),
    "who sends little rests like a flood": Bug(
        saying(inspect.unwrap(quotas.Quotas.lane), "lane.began_ms - CREDIT_MS", "lane.began_ms"),
        test_quotas.test_messages_of_one_peer_take_turns_with_a_rest_between_and_others_do_not_wait,
    ),
    "what has no result is offered as often for ever": Bug(
        saying(courier.Courier._resend_ms, "RESEND_MS << min(times, 10)", "RESEND_MS"),
        test_quotas.test_what_has_no_result_is_offered_again_after_twice_as_long_to_five_minutes,
    ),
    "a peer's address is greeted like a stranger's": Bug(
        saying(greetings.Greetings.grants, "self._is_known(address, now_ms) or ", ""),
        test_greetings.test_an_address_from_which_a_peer_came_has_its_own_whatever_strangers_do,
    ),
    "who chooses addresses has a budget for each": Bug(
        saying(greetings._subscriber, "(address, V6_PREFIX)", "(address, 128)"),
        test_greetings.test_who_chooses_addresses_within_a_network_of_ipv6_is_one_address,
    ),
    "all peers wait for one lane": Bug(
        saying(inspect.unwrap(quotas.Quotas.lane), "(peer, precedence == 1)", '("", False)'),
        test_quotas.test_messages_of_one_peer_take_turns_with_a_rest_between_and_others_do_not_wait,
    ),
    "what others brought counts for everyone": Bug(
        saying(quotas.Quotas.is_of, "self._passing.get(number) == peer", "True"),
        test_quotas.test_what_waits_to_go_on_counts_for_the_peer_that_brought_it,
    ),
    "flash has no budget": Bug(
        saying(
            peering.Peering._precedence,
            'await self._tell(peer, "flash")',
            'return await self._tell(peer, "flash") or 0',
        ),
        test_quotas.test_flash_beyond_its_budget_is_taken_and_worked_on_as_immediate,
    ),
    "flash beyond its budget goes on as flash": Bug(
        saying(peering.Peering._arrival, "event, precedence_min=precedence)", "event)"),
        test_quotas.test_flash_beyond_its_budget_is_taken_and_worked_on_as_immediate,
    ),
    "large flash beyond its budget goes on as flash": Bug(
        saying(
            peering.Peering._finish,
            "Complete(release), precedence_min=precedence)",
            "Complete(release))",
        ),
        test_quotas.test_a_large_flash_beyond_its_budget_goes_on_as_immediate,
    ),
    "a hub pays for whom it passes on": Bug(
        saying(quotas.Quotas.is_flash, 'f"{peer}:{maker}"', "peer"),
        test_quotas.test_who_is_passed_on_does_not_spend_the_hubs_own_budget,
    ),
    "flash that comes again spends the budget": Bug(
        saying(
            peering.Peering._precedence,
            'if known is not None and known.state != "receiving":',
            "if False:",
        ),
        test_quotas.test_flash_that_comes_again_spends_nothing_and_goes_before_nothing,
    ),
    "a full disk takes flash beyond its budget": Bug(
        saying(
            peering.Peering._arrival,
            "require_room(PRECEDENCES[precedence])",
            "require_room(consignment.release.precedence)",
        ),
        test_quotas.test_on_a_full_disk_flash_beyond_its_budget_waits,
    ),
    "officers are told each time": Bug(
        saying(quotas.Quotas.is_news, "self._told_ms[peer, limit] = now_ms", "pass"),
        test_quotas.test_officers_see_who_goes_over_its_budget_once_in_ten_minutes,
    ),
    "a sender that is told to come back later does not wait": Bug(
        saying(courier.Courier._send, "self._wait(precedence, said.after_s)", "pass"),
        test_quotas.test_a_sender_comes_back_when_it_was_told_to_and_flash_goes_meanwhile,
    ),
    "a peer that asks us to wait stops flash as well": Bug(
        saying(
            courier.Courier._wait, "range(precedence, len(PRECEDENCES))", "range(len(PRECEDENCES))"
        ),
        test_quotas.test_a_sender_comes_back_when_it_was_told_to_and_flash_goes_meanwhile,
    ),
    "nobody rests while flash is drafted": Bug(
        saying(counter.Counter._draft, "at_work(urgency)", "at_work(3)"),
        _case(test_quotas.test_while_flash_is_at_work_at_a_node_all_else_rests_there, "FLASH"),
    ),
    "nobody rests while flash is taken in": Bug(
        saying(peering.Peering._hop, "at_work(least)", "at_work(3)"),
        _case(test_quotas.test_while_flash_is_at_work_at_a_node_all_else_rests_there, "FLASH"),
    ),
    "nobody rests while flash is sent": Bug(
        saying(courier.Courier._lane, "at_work(precedence)", "at_work(3)"),
        _case(test_quotas.test_while_flash_is_at_work_at_a_node_all_else_rests_there, "FLASH"),
    ),
    "what waits for a lane is not counted": Bug(
        saying(courier.Courier._wait_for_lane, "self.backlog.add(row.number)", "pass"),
        test_quotas.test_while_a_peer_takes_less_than_waits_for_it_only_what_is_urgent_is_taken,
    ),
    "what waits for a peer that is not reached stops everybody": Bug(
        saying(vars(courier.Courier)["is_behind"].fget, "not self.calls.error and ", ""),
        test_quotas.test_what_waits_for_a_peer_that_is_not_reached_or_under_a_hold_stops_nobody,
    ),
}
