"""Turns: the most urgent works next, the loop looks at its sockets in between, nobody is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing

from relto.turns import REST_MS_MAX, Turns
from world import VirtualLoop


def test_the_most_urgent_goes_first_then_who_has_waited_longest() -> None:
    async def play() -> list[str]:
        turns, done = Turns(lambda: 0), []

        async def work(name: str, precedence: int) -> None:
            await turns.wait(precedence)
            done.append(name)

        asked = {"routine 1": 3, "flash 1": 0, "routine 2": 3, "priority": 2, "flash 2": 0}
        await asyncio.gather(*(work(name, precedence) for name, precedence in asked.items()))
        return done

    assert asyncio.run(play()) == ["flash 1", "flash 2", "priority", "routine 1", "routine 2"]


def test_what_comes_in_meanwhile_overtakes_a_long_piece_of_work() -> None:
    async def play() -> list[str]:
        turns, done = Turns(lambda: 0), []

        async def long(pieces: int) -> None:
            for number in range(pieces):
                await turns.wait(3)
                done.append(f"piece {number}")
                if number == 1:
                    asyncio.get_running_loop().call_soon(asyncio.create_task, flash())

        async def flash() -> None:
            await turns.wait(0)
            done.append("flash")

        await long(6)
        return done

    done = asyncio.run(play())
    assert done.index("flash") <= 4  # after the pieces under way, and before the rest
    assert [d for d in done if d != "flash"] == [f"piece {number}" for number in range(6)]


def test_who_gives_up_takes_no_turn_from_the_others() -> None:
    async def play() -> list[int]:
        turns, done = Turns(lambda: 0), []

        async def work(number: int) -> None:
            await turns.wait(number % 2)
            done.append(number)

        tasks = [asyncio.create_task(work(number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(work(7), 1)
        return done

    assert asyncio.run(play()) == [2, 4, 1, 5, 7]


# While FLASH is at work


def played(play: Callable[[Turns, Callable[[], int]], Awaitable[None]]) -> list[bool]:
    """What the writer was told, once a play in virtual time is over."""
    told: list[bool] = []
    with closing(VirtualLoop()) as loop:

        def now_ms() -> int:
            return round(loop.time() * 1000)

        async def whole() -> None:
            await play(Turns(now_ms, told.append), now_ms)
            await asyncio.sleep(0)

        loop.run_until_complete(whole())
    return told


async def worked(turns: Turns, precedence: int, ms: int) -> None:
    with turns.at_work(precedence):
        await asyncio.sleep(ms / 1000)


def test_while_flash_is_at_work_all_else_rests_and_goes_on_afterwards() -> None:
    went: dict[int, int] = {}

    async def play(turns: Turns, now_ms: Callable[[], int]) -> None:
        async def wait(precedence: int) -> None:
            await turns.wait(precedence)
            went[precedence] = now_ms()

        at_work = asyncio.create_task(worked(turns, 0, 30))
        await asyncio.sleep(0.01)
        await asyncio.gather(at_work, *(wait(precedence) for precedence in (3, 1, 0)))

    assert played(play) == [True, False]
    assert went == {0: 10, 1: 30, 3: 30}


def test_others_rest_for_flash_alone() -> None:
    async def play(turns: Turns, now_ms: Callable[[], int]) -> None:
        at_work = asyncio.create_task(worked(turns, 1, 30))
        await asyncio.sleep(0.01)
        await turns.wait(3)
        assert now_ms() == 10
        await at_work

    assert played(play) == []


def test_the_rest_goes_on_with_whoever_does_the_next_thing() -> None:
    async def play(turns: Turns, now_ms: Callable[[], int]) -> None:
        handed = asyncio.Event()

        async def lane() -> None:
            await handed.wait()
            await worked(turns, 0, 5)

        task = asyncio.create_task(lane())
        await asyncio.sleep(0)
        with turns.at_work(0):
            handed.set()
        await task

    assert played(play) == [True, False]


def test_a_rest_ends_however_long_flash_is_at_work_and_the_next_one_is_to_be_earned() -> None:
    rests: list[int] = []

    async def play(turns: Turns, now_ms: Callable[[], int]) -> None:
        async def rest_ms() -> int:
            began_ms = now_ms()
            task = asyncio.create_task(worked(turns, 0, 10 * REST_MS_MAX))
            await asyncio.sleep(0)
            await turns.wait(3)
            found = now_ms() - began_ms
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return found

        for earned_ms in (0, 0, 50, 10 * REST_MS_MAX):
            await asyncio.sleep(earned_ms / 1000)
            rests.append(await rest_ms())

    assert played(play) == [True, False] * 3
    assert rests == [200, 0, 50, 200]
