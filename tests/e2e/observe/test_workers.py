"""Several workers: one page of metrics, one log."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import httpx2

from sage_edge.core.settings import default_of
from tests.e2e.observe.support import GATEWAY, Figures, observed_edge
from tests.kit.edge import PROJECT, WAIT_SECONDS, clean_environment, edge_command, running_process
from tests.kit.eventually import eventually

REQUESTS = 60


def wait_for_requests(url: str, count: int) -> None:
    """Until so many are reported. Reports come each second."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (seen := Figures(url).sum("requests_total", mount="/")) != count:
        assert seen < count
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_workers_figures_add_up_and_outlive_a_worker() -> None:
    with observed_edge("--workers", "2") as (edge, url):
        edge.log.wait_for("worker ready", count=2)
        workers = set()
        for _ in range(REQUESTS):
            with edge.client(http2=False) as client:  # a connection of its own, to either worker
                client.get("/scope")
        wait_for_requests(url, REQUESTS)
        workers = set(re.findall(r"path=/scope .*worker=(\d)", edge.log.text)) | set(
            re.findall(r"worker=(\d).*path=/scope", edge.log.text)
        )
        assert workers == {"1", "2"}
        figures = Figures(url)
        assert figures.sum("phase", phase="ready") == 2
        assert figures.sum("workers_ready") == figures.sum("workers_wanted") == 2
        assert figures.sum("worker_failures_total") == 0
        assert figures.sum("readiness_check", check="started") == 1
        assert figures.sum("readiness_check", check="workers") == 0, "it says nothing: it is always ok"
        # Three processes, each of which has taken more than this.
        assert figures.sum("process_resident_memory_bytes") > 3 * 20_000_000
        assert 0 < figures.sum("process_open_fds") < figures.sum("process_max_fds")
        assert figures.sum("connections_limit") == 2 * default_of("max_connections")
        (pid,) = re.findall(r"worker ready .*worker=1 pid=(\d+)", edge.log.text)
        os.kill(int(pid), signal.SIGKILL)
        edge.log.wait_for("worker ready", count=3)
        assert Figures(url).sum("worker_failures_total") == 1
        wait_for_requests(url, REQUESTS)
        with edge.client() as client:
            client.get("/scope")
        wait_for_requests(url, REQUESTS + 1)
        assert edge.stop() == 0


def test_a_configuration_without_pages_leaves_the_figures_of_those_that_the_supervisor_keeps(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    common = f'bind = "127.0.0.1:0"\nadmin_bind = "none"\nworkers = 1\ngateway = "{GATEWAY[1]}"\n'
    file.write_text(common + 'metrics_bind = "127.0.0.1:0"\n')
    command = edge_command("serve", "--config", str(file))
    with running_process(command, cwd=PROJECT, env=clean_environment()) as (process, output, log):
        gateway, metrics = (output.wait_for(rf"{title} +(http://\S+)")[1] for title in ("listening", "metrics"))
        log.wait_for("worker ready")
        file.write_text(common + 'metrics_bind = "none"\n')
        process.send_signal(signal.SIGUSR2)
        log.wait_for(r"\[info\] stopped .*worker=1")
        httpx2.get(f"{gateway}/scope", trust_env=False)
        wait_for_requests(metrics, 1)
        assert Figures(metrics).sum("phase", phase="ready") == 1
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0


def test_workers_share_a_log_file_that_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "edge.log"

    def has_two_ready() -> bool:
        return path.exists() and len(re.findall("worker ready", path.read_text())) >= 2

    with observed_edge("--workers", "2", "--log-file", str(path), wait_for_ready=False) as (edge, _):
        assert eventually(has_two_ready, WAIT_SECONDS)
        path.rename(tmp_path / "edge.log.1")
        edge.process.send_signal(signal.SIGUSR1)
        assert eventually(path.exists, WAIT_SECONDS)
        with edge.client() as client:
            client.get("/scope")
        assert edge.stop() == 0
        assert edge.log.wait_for_end() == ""
    assert "path=/scope" in path.read_text() + (tmp_path / "edge.log.1").read_text()
    assert re.search(r"stopped .*\n", path.read_text())
