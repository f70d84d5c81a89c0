"""The live demo without its cluster: keys, what they ask for, and what is told of a fault."""

import asyncio
import os
import pty
import termios

import pytest

from dwcp_stream.cli.main import run
from dwcp_stream.demo import keys
from dwcp_stream.demo.live import Injected, Live, fault_kinds
from dwcp_stream.demo.watch import Seen


def test_a_number_asks_for_its_fault_and_other_keys_for_nothing():
    live = Live(fault_kinds())
    for key in ("x", "0", "9", "\x1b", "1", "2"):
        live.press(key)
    assert [live.wanted.get_nowait() for _ in range(live.wanted.qsize())] == list(live.kinds[:2])
    assert live.line().startswith("no fault")
    assert f"1 {live.kinds[0]}" in live.line()
    live.faults.append(Injected("slow_disk", 5.0))
    assert live.line().startswith("fault now: slow_disk")


def test_an_alert_counts_for_a_fault_if_it_began_to_fire_after_it():
    seen = Seen()
    seen.alerts = [{"action": "firing"}, {"action": "resolved"}, {"action": "firing"}]
    seen.received = [9.0, 11.0, 12.5]
    assert Injected("slow_disk", 10.0, 20.0).plain(seen)["first_alert_after_seconds"] == 2.5
    assert Injected("slow_disk", 13.0, 20.0).plain(seen)["first_alert_after_seconds"] is None


async def test_keys_come_one_by_one_and_the_terminal_is_left_as_it_was(monkeypatch):
    mine, terminal = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as file:
        monkeypatch.setattr(keys.sys, "stdin", file)
        before, taken = termios.tcgetattr(terminal), asyncio.Queue()
        with keys.pressed(taken.put_nowait):
            os.write(mine, b"3")
            assert await asyncio.wait_for(taken.get(), 10) == "3", "without Enter"
            assert termios.tcgetattr(terminal) != before
        assert termios.tcgetattr(terminal) == before
    os.close(mine)


async def test_where_there_is_no_terminal_nothing_is_read(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("1")
    with (tmp_path / "file").open() as file:
        monkeypatch.setattr(keys.sys, "stdin", file)
        with keys.pressed(pytest.fail):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--inject", "leader_lost@5"], "needs --live"),
        (["--live", "--inject", "nonsense@5"], "one of leader_lost"),
        (["--live", "--inject", "leader_lost"], "KIND@SECONDS"),
        (["--live", "--inject", "leader_lost@soon"], "KIND@SECONDS"),
    ],
)
def test_what_cannot_be_injected_is_said(arguments, said, capsys):
    assert run(["demo", *arguments]) == 2
    assert said in capsys.readouterr().err
