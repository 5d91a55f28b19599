"""How far a download is, at what speed, and how long it will take."""

from __future__ import annotations

import pytest

from kaito.inference.loading import DownloadProgress
from kaito.inference.progress import DownloadStopped, TransferReport
from kaito.testing import eventually


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def download(clock: Clock) -> DownloadProgress:
    return DownloadProgress(clock)


def test_without_a_download_all_is_zero(download: DownloadProgress) -> None:
    assert (download.total_bytes, download.done_bytes, download.bytes_per_s, download.remaining_s) == (0, 0, 0, 0)


def test_before_the_first_byte_nobody_knows_how_long(download: DownloadProgress) -> None:
    download.start(1000)
    assert (download.bytes_per_s, download.remaining_s) == (0, -1)


def test_speed_is_that_of_the_last_ten_seconds(download: DownloadProgress, clock: Clock) -> None:
    download.start(100_000_000)
    for second in range(1, 31):
        clock.now = second
        download.reach(second * 1_000_000 if second <= 15 else 15_000_000 + (second - 15) * 100_000)
    assert download.bytes_per_s == pytest.approx(100_000)
    assert download.remaining_s == pytest.approx(835)
    assert str(download) == "16.5 MB of 100.0 MB, 100.0 kB/s, 835 s left"


def test_it_is_told_once_a_second_and_at_the_end(download: DownloadProgress, clock: Clock) -> None:
    download.start(100)
    told = []
    for tenth in range(1, 26):
        clock.now = tenth / 10
        told.append(download.reach(4 * tenth))
    assert [index + 1 for index, each in enumerate(told) if each] == [10, 20, 25]
    assert (download.bytes_per_s, download.remaining_s) == (0, 0)


def test_it_never_goes_back_nor_over_the_end(download: DownloadProgress) -> None:
    download.start(100)
    download.reach(60)
    download.reach(10)
    assert download.done_bytes == 60
    download.reach(900)
    assert download.done_bytes == 100


def test_one_that_is_stopped_says_so_to_whoever_goes_on(download: DownloadProgress) -> None:
    download.start(100)
    download.stop()
    with pytest.raises(DownloadStopped):
        download.reach(1)


async def test_a_transfer_is_told_while_nothing_comes_and_waits_are_told_less_often() -> None:
    said: list[str] = []
    report = TransferReport(said.append, "still waiting", every_s=0.01, quiet_s=0.05)
    async with report.told():
        await eventually(lambda: said or None, message="a line about the wait")
        assert said == ["still waiting"]
        report.say("trying again")
        report(1_000, 4_000)
        await eventually(lambda: len(said) > 4 or None, message="lines about the bytes")
    assert said[1] == "trying again"
    assert all(line.startswith("1.0 kB of 4.0 kB, ") for line in said[2:])
