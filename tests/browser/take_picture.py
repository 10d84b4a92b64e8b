"""Takes README's pictures of the console: `make picture` starts the demo, waits until it is lively, and looks at it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

from worker.supervisor import free_port

PICTURES = Path(__file__).parent / "pictures"
LIVELY_AFTER = 45.0  # seconds: by then there is something of everything on the page
STARTS_WITHIN = 90.0
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


def main() -> None:
    """Start the demo, take the picture, stop the demo."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("install Chromium first (Debian: apt-get install chromium)")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERGRANT_")}
    with tempfile.TemporaryDirectory() as home:
        environment["EVERGRANT_HOME_DIR"] = home
        demo = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "up", "--demo", "--port", str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            take(chromium, f"http://127.0.0.1:{port}", environment)
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait()


def take(chromium: str, address: str, environment: dict[str, str]) -> None:
    """Wait for the demo to come up and grow lively, sign in, and take the pictures."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not ready(address):
        if time.monotonic() > deadline:
            sys.exit("the demo did not come up")
        time.sleep(0.5)
    print(f"the demo is up; pictures follow in {LIVELY_AFTER:g} s")
    time.sleep(LIVELY_AFTER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(sign_in_link(environment))
        page.get_by_role("table", name="Clients").wait_for()
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / "overview.png")
        # One that has lived: whoever came to need its owner last.
        page.locator(".grant-reconsent_required").get_by_role("link").first.click()
        page.get_by_role("heading", name="Its life").wait_for()
        page.screenshot(path=PICTURES / "grant.png")
        browser.close()
    print(PICTURES)


def sign_in_link(environment: dict[str, str]) -> str:
    """Return a link that signs in to the running demo."""
    command = [sys.executable, "-m", "worker.cli", "console", "link", "--name", "operator"]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return printed.stdout.strip()


def ready(address: str) -> bool:
    """Tell whether the page is served."""
    try:
        return httpx.get(f"{address}/readyz", trust_env=False).is_success
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
