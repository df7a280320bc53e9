from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from usagetap.store.database import StoreError
from usagetap.store.queries import open_reader
from usagetap.web import board as module
from usagetap.web.ask import Ask
from usagetap.web.board import Board

from .conftest import ZONE


@pytest.fixture
def board(database: Path) -> Iterator[Board]:
    board = Board(lambda: open_reader(database), ZONE)
    yield board
    board.close()


def test_an_empty_database_is_a_scene_too(board: Board) -> None:
    scene = board.scene(Ask())
    assert scene.whole
    assert not scene.any_rows
    assert scene.rows == []


def test_the_same_rows_say_the_same_everywhere(board: Board, put: Callable[..., None]) -> None:
    put(tag="a")
    put("client_disconnected", tag="b", ago=3 * 86_400)
    put("http_error", cost=None, ago=20 * 86_400)
    scene = board.scene(Ask(range="30d"))
    assert scene.glances is not None
    assert [glance.total.requests for glance in scene.glances[1:]] == [2, 3]
    assert scene.glances[2].total.cost == {"USD": Decimal("0.0024")}
    assert scene.course is not None
    assert len(scene.course.names) == 30
    assert sum(line.requests for line in scene.course.lines) == 3
    assert len(scene.rows or ()) == 3


def test_filters_count_for_every_part(board: Board, put: Callable[..., None]) -> None:
    put(tag="a")
    put(tag="b")
    scene = board.scene(Ask(filters=(("tag", ("a",)),)))
    assert scene.glances is not None
    assert scene.seconds is not None
    assert scene.glances[2].total.requests == len(scene.rows or ()) == scene.seconds["gpt-5-mini"].total == 1


def test_a_part_holds_until_something_changed(
    board: Board, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    first = board.scene(Ask())
    assert board.scene(Ask()).stamp == first.stamp
    put()
    assert board.scene(Ask()).stamp == first.stamp  # too early to ask again
    monkeypatch.setattr(module, "_SOON", 0.0)
    monkeypatch.setattr(module, "_SHARE", 0)
    fresh = board.scene(Ask())
    assert fresh.stamp != first.stamp
    assert len(fresh.rows or ()) == 2


def test_in_haste_what_takes_long_is_left_for_the_next_time(
    board: Board, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    monkeypatch.setattr(module, "HASTE", -1.0)
    hurried = board.scene(Ask())
    assert hurried.waste is None
    assert not hurried.whole
    monkeypatch.setattr(module, "HASTE", 60.0)
    patient = board.scene(Ask())
    assert patient.whole
    assert patient.stamp != hurried.stamp


def test_in_a_large_table_the_slow_sums_come_one_at_a_time(
    board: Board, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "HASTE", 60.0)
    known = []
    while not (scene := board.scene(Ask())).whole:
        known.append(
            [part is not None for part in (scene.glances, scene.waits, scene.seconds, scene.rates, scene.waste)]
        )
    assert known == [[True, *[True] * count, *[False] * (4 - count)] for count in range(4)]


def test_after_a_failure_the_next_question_opens_the_database_again(tmp_path: Path, database: Path) -> None:
    where = tmp_path / "not there yet.db"
    board = Board(lambda: open_reader(where), ZONE)
    with pytest.raises(StoreError):
        board.scene(Ask())
    where = database
    assert board.scene(Ask()).whole
    board.close()


def test_a_row_comes_with_the_others_of_its_flow(board: Board, put: Callable[..., None]) -> None:
    put(flow_id="same", turn=1)
    put(flow_id="same", turn=2)
    put()
    found = board.row(1)
    assert found is not None
    assert (found[0]["turn"], [other["turn"] for other in found[1]]) == (1, [2])
    assert board.row(99) is None
