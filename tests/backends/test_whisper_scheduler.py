"""Which decode is next: without a model, a thread or a clock."""

from __future__ import annotations

import pytest

from backends.whisper.scheduler import FIRST_PARTIAL_SECONDS, PARTIAL_SECONDS, Kind, Limits, Scheduler


def scheduler(threads: int = 2, live_batch: int = 1, file_batch: int = 4) -> Scheduler[str]:
    return Scheduler(Limits(threads, live_batch, file_batch))


def finals(made: Scheduler[str]) -> list[str]:
    batch = made.next_final()
    return [] if batch is None else batch.jobs


def partials(made: Scheduler[str]) -> list[str]:
    batch = made.next_partial()
    return [] if batch is None else batch.jobs


def file_jobs(made: Scheduler[str]) -> list[str]:
    batch = made.next_file()
    return [] if batch is None else batch.jobs


def test_finals_go_in_the_order_in_which_they_came() -> None:
    """The next final is the oldest."""
    made = scheduler()
    made.submit(Kind.FINAL, "first")
    made.submit(Kind.FINAL, "second")
    assert [finals(made) for _ in range(2)] == [["first"], ["second"]]


def test_no_partial_begins_where_finals_need_all_cores() -> None:
    """A partial waits for the finals that are queued or running, unless there is another core."""
    made = scheduler(1)
    made.submit(Kind.PARTIAL, "partial")
    made.submit(Kind.FINAL, "final")
    assert partials(made) == []
    batch = made.next_final()
    assert batch is not None
    assert partials(made) == []
    made.finished(batch, 0.1)
    assert partials(made) == ["partial"]
    two = scheduler(2)
    two.submit(Kind.PARTIAL, "partial")
    two.submit(Kind.FINAL, "final")
    assert partials(two) == ["partial"]


def test_a_final_begins_beside_a_partial() -> None:
    """Also on one core a final does not wait for a running partial."""
    made = scheduler(1)
    made.submit(Kind.PARTIAL, "partial")
    assert partials(made) == ["partial"]
    made.submit(Kind.FINAL, "final")
    assert finals(made) == ["final"]


def test_a_final_begins_early_only_on_an_idle_core() -> None:
    """With a final running on every core, or more speakers than cores, none is begun that may be in vain."""
    made = scheduler(1)
    made.live_opened()
    assert made.has_spare_core
    made.submit(Kind.FINAL, "final")
    assert not made.has_spare_core
    made = scheduler(1)
    for _ in range(2):
        made.live_opened()
    assert not made.has_spare_core


def test_a_partial_that_a_final_overtook_does_not_slow_the_next() -> None:
    """The cadence follows the decodes that had a core to themselves."""
    made = scheduler(1)
    made.live_opened()
    made.submit(Kind.PARTIAL, "partial")
    batch = made.next_partial()
    assert batch is not None
    made.submit(Kind.FINAL, "final")
    assert finals(made) == ["final"]
    made.finished(batch, 5.0)
    assert made.partial_spacing(first=False) == PARTIAL_SECONDS


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (2, 1), (4, 3)])
def test_a_core_stays_free_for_finals(threads: int, at_once: int) -> None:
    """Of several cores, one never decodes partials."""
    made = scheduler(threads)
    for number in range(8):
        made.submit(Kind.PARTIAL, f"{number}")
    assert sum(bool(partials(made)) for _ in range(threads)) == at_once


def test_a_thread_takes_the_next_partial_when_one_is_done() -> None:
    """The end of a partial makes room for the next."""
    made = scheduler(2)
    made.submit(Kind.PARTIAL, "first")
    made.submit(Kind.PARTIAL, "second")
    batch = made.next_partial()
    assert batch is not None
    assert made.next_partial() is None
    made.finished(batch, 0.1)
    assert partials(made) == ["second"]


def test_due_utterances_share_a_batch_where_it_is_wide() -> None:
    """On a GPU all finals that wait are decoded together, up to the batch's width, and no partial with them."""
    made = scheduler(1, live_batch=3)
    for number in range(4):
        made.submit(Kind.FINAL, f"{number}")
    made.submit(Kind.PARTIAL, "partial")
    assert [finals(made) for _ in range(2)] == [["0", "1", "2"], ["3"]]


def test_files_are_batched_on_all_threads_without_live_speech() -> None:
    """Without live speech every thread takes a batch of pieces."""
    made = scheduler(2, file_batch=3)
    for number in range(7):
        made.submit(Kind.FILE, f"{number}")
    assert [len(file_jobs(made)) for _ in range(2)] == [3, 3]


def test_files_use_one_thread_and_one_piece_while_anybody_speaks() -> None:
    """With a live utterance open, one piece is decoded, and the next when that is done."""
    made = scheduler(4)
    made.live_opened()
    for number in range(3):
        made.submit(Kind.FILE, f"{number}")
    batch = made.next_file()
    assert batch is not None
    assert batch.jobs == ["0"]
    assert made.next_file() is None
    made.finished(batch, 1.0)
    assert file_jobs(made) == ["1"]


def test_files_have_all_threads_again_when_the_last_speaker_is_done() -> None:
    """The end of live speech lifts the limit."""
    made = scheduler(2)
    made.live_opened()
    made.submit(Kind.FILE, "0")
    file_jobs(made)
    made.submit(Kind.FILE, "1")
    made.live_closed()
    assert file_jobs(made) == ["1"]


def test_live_threads_take_no_files() -> None:
    """Pieces of files never hold up a thread of live speech."""
    made = scheduler()
    made.submit(Kind.FILE, "piece")
    assert made.next_final() is None
    assert made.next_partial() is None


def test_a_withdrawn_job_is_not_decoded() -> None:
    """A job can be withdrawn until it runs, and it can be told which."""
    made = scheduler()
    made.submit(Kind.FINAL, "unwanted")
    made.submit(Kind.FINAL, "wanted")
    assert made.withdraw(Kind.FINAL, "unwanted")
    assert finals(made) == ["wanted"]
    assert not made.withdraw(Kind.FINAL, "wanted")
    assert made.jobs == []


def test_partials_of_an_only_speaker_come_about_one_a_second() -> None:
    """Before any decode was measured, and while decodes are short, the spacing is the shortest; the first is sooner."""
    made = scheduler(1)
    made.live_opened()
    assert made.partial_spacing(first=False) == PARTIAL_SECONDS
    assert made.partial_spacing(first=True) == FIRST_PARTIAL_SECONDS


def test_the_cadence_of_partials_follows_decode_time_and_load() -> None:
    """Partials take at most half of the cores: twice the speakers or the decode time, half the cadence."""
    made = scheduler(2)
    for _ in range(4):
        made.live_opened()
    made.submit(Kind.PARTIAL, "measured")
    batch = made.next_partial()
    assert batch is not None
    made.finished(batch, 0.5)
    four = made.partial_spacing(first=False)
    assert four == pytest.approx(4 * 0.5 / (2 * 0.5))
    for _ in range(4):
        made.live_opened()
    assert made.partial_spacing(first=False) == pytest.approx(2 * four)
    assert made.partial_spacing(first=True) == made.partial_spacing(first=False)
