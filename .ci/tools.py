"""Look for the programs that tests need; as root on Debian, install what is missing.

Standard library only: it runs before the environment is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# program -> Debian packages. ip and unshare make a network with nothing but `lo`; gcc is
# looked for before the environment is made, so that the native code is built.
PROGRAMS = {
    "gcc": "gcc libc6-dev",
    "chromium": "chromium",
    "ffmpeg": "ffmpeg",
    "ip": "iproute2",
    "unshare": "util-linux",
}


def missing() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    wanted = [names for name, names in PROGRAMS.items() if shutil.which(name, path=path) is None]
    return " ".join(wanted).split()


def main() -> int:
    packages = missing()
    if not packages:
        return 0
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing what the tests drive:", " ".join(packages), flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], env=environment, check=False)
        subprocess.run(install, env=environment, check=False)
        packages = missing()
        if not packages:
            return 0
    line = f"sudo apt-get update && sudo apt-get install -y {' '.join(packages)}"
    print(f"The tests also need: {' '.join(packages)}. Type:\n  {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
