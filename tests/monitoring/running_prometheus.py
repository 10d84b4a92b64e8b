"""A real Prometheus with our rules, for as long as a `with` block."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import yaml

from tests.monitoring.prometheus_tools import RULES, program
from tests.support.waiting import wait_until
from worker.embedded import start_bound, stop_in_steps
from worker.supervisor import free_port

_STARTS_WITHIN: Final = 30.0  # seconds; it takes one
_ANSWERS_WITHIN: Final = 20.0
_MILLISECONDS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d+)([smhd])")


def hurried(rules: str, factor: int) -> str:
    """Return rules whose windows and waits are so many times shorter; thresholds stay."""

    def shorter(found: re.Match[str]) -> str:
        return _DURATION.sub(lambda one: f"{int(one[1]) * _MILLISECONDS[one[2]] // factor}ms", found[0])

    return re.sub(r"\[[0-9smhd:]+\]|^ +for: .*$", shorter, rules, flags=re.MULTILINE)


class RunningPrometheus:
    """Scrapes some targets every second and evaluates our rules as often.

    Args:
        folder: a folder of the test's own.
        targets: `host:port` of each, by the name of its job.
        factor: how many times shorter the rules' windows and waits are.

    """

    def __init__(self, folder: Path, targets: dict[str, str], *, factor: int = 1) -> None:
        self._folder = folder
        self._targets = targets
        self._factor = factor
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        for path in RULES:
            (self._folder / path.name).write_text(hurried(path.read_text(encoding="utf-8"), self._factor))
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [path.name for path in RULES],
            "scrape_configs": [
                {"job_name": job, "scrape_timeout": "1s", "static_configs": [{"targets": [target]}]}
                for job, target in self._targets.items()
            ],
        }
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
        self._process = start_bound(
            (
                program("prometheus"),
                f"--config.file={self._folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ),
            death_signal=signal.SIGKILL,
            log_path=self._folder / "prometheus.log",
        )
        wait_until(self._is_ready, _STARTS_WITHIN, "Prometheus is ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            stop_in_steps(self._process, [(signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)])

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query; a scalar is one sample."""
        data = self._get("query", query=expression)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    def number(self, expression: str) -> float:
        """Return the one number that a query brings."""
        (sample,) = self.query(expression)
        return float(sample["value"][1])

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def unhealthy_rules(self) -> list[str]:
        """Return each rule that was not evaluated, or not without an error, and what the error is."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        assert rules
        return [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]

    def unscraped(self) -> list[str]:
        """Return each target that is not up, and why."""
        targets = self._get("targets")["activeTargets"]
        return [f"{found['scrapePool']}: {found['lastError']}" for found in targets if found["health"] != "up"]

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        answer = httpx.get(
            f"{self.url}/api/v1/{what}", params=parameters, trust_env=False, timeout=_ANSWERS_WITHIN
        ).json()
        assert answer["status"] == "success", (answer, parameters)
        data: dict[str, Any] = answer["data"]
        return data
