"""Where SQLite puts what it cannot hold in memory."""

from __future__ import annotations

import json
import subprocess
import sys

LOOK = """
import json, os, sys
from pathlib import Path
from trunkline_store.sqlite.connect import connect_reader, connect_writer

first, second = map(Path, sys.argv[1:])
for path in (first, second):
    connect_writer(path / "it's.db")
reader = connect_reader(second / "it's.db", page_bytes=1 << 16)
many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
cursor = reader.execute(many + "SELECT i, hex(randomblob(20)) AS h FROM n ORDER BY h")
cursor.fetchone()
names = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink() and os.path.lexists(file)]
print(json.dumps([str(Path(name).parent) for name in names if "etilqs" in name]))
"""


def test_temporary_files_lie_beside_the_first_database_of_the_process(tmp_path):
    first, second = tmp_path / "first's", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOOK, first, second], capture_output=True, text=True, check=True
    )
    folders = set(json.loads(done.stdout))
    assert folders == {str(first)}
