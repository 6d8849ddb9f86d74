"""Turns: the most urgent works next, the loop looks at its sockets in between, nobody is lost."""

import asyncio

from relto.turns import Turns


def test_the_most_urgent_goes_first_then_who_has_waited_longest() -> None:
    async def play() -> list[str]:
        turns, done = Turns(), []

        async def work(name: str, precedence: int) -> None:
            await turns.wait(precedence)
            done.append(name)

        asked = {"routine 1": 3, "flash 1": 0, "routine 2": 3, "priority": 2, "flash 2": 0}
        await asyncio.gather(*(work(name, precedence) for name, precedence in asked.items()))
        return done

    assert asyncio.run(play()) == ["flash 1", "flash 2", "priority", "routine 1", "routine 2"]


def test_what_comes_in_meanwhile_overtakes_a_long_piece_of_work() -> None:
    async def play() -> list[str]:
        turns, done = Turns(), []

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
        turns, done = Turns(), []

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
