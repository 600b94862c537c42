"""What all whole-system tests share: the head of a run, and the processes' logs beside a failed test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skyflight_testing import cluster as clusters, settings


def pytest_report_header() -> list[str]:
    size = "everything at full size" if settings.FULL else (
        "reduced: 21 kills of workers instead of 200, a part of the altered bits; SKYFLIGHT_FULL=1 for all"
    )
    return [f"skyflight: {settings.binary()}", f"test data: {settings.data_folder()}", f"size: {size}; seed {settings.SEED}"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for cluster in clusters.live:
            report.sections.append((f"logs of the cluster in {cluster.folder}", cluster.log_tails()))
