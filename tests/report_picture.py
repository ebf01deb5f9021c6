"""Take the picture of README.md again: the first screen of a report, as docs/report.png.

    python -m tests.report_picture                     # of the published study
    python -m tests.report_picture my/report/index.html

It needs Chromium and its driver, as tests/analysis/page/test_browser.py does.
"""

import io
import shutil
import sys
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver

from tests.tools import ROOT

PAGE = ROOT / "outputs/reference/paper/report/index.html"
PICTURE = ROOT / "docs/report.png"
WIDTH, HEIGHT, SCALE = 1340, 960, 1.5
LIMIT = 300_000
"""Largest size of the picture in bytes."""


def screenshot(page: Path) -> bytes:
    """The first screen of a page as a PNG of 256 colours."""
    options = webdriver.ChromeOptions()
    for flag in ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", f"force-device-scale-factor={SCALE}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": SCALE, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.resolve().as_uri())
        time.sleep(3)  # fonts, and pictures that load when they are seen
        full = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    finally:
        browser.quit()
    written = io.BytesIO()
    full.quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def main() -> None:
    taken = screenshot(Path(sys.argv[1]) if sys.argv[1:] else PAGE)
    if len(taken) > LIMIT:
        raise SystemExit(f"{PICTURE.name} must have at most {LIMIT} bytes (got {len(taken)})")
    PICTURE.write_bytes(taken)
    print(f"{PICTURE}: {len(taken) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
