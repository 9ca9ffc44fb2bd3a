from __future__ import annotations

import pytest

from rlmba.data.table import read_table
from rlmba.errors import DataError, UsageError
from rlmba.tables import WRITABLE, check_target, write_table

COLUMNS = {"id": ["a", "=1+1", "c"], "p": [0.5, None, -2.0], "n, of x": ["1", "2", "3"]}


def parts():
    for rows in (slice(0, 2), slice(2, 3)):
        yield {name: column[rows] for name, column in COLUMNS.items()}


@pytest.mark.parametrize("suffix", WRITABLE)
def test_chunks_make_the_same_table_as_the_whole(tmp_path, suffix):
    whole, chunked = tmp_path / f"whole{suffix}", tmp_path / f"chunked{suffix}"
    write_table(whole, COLUMNS)
    write_table(chunked, parts(), size=100)
    assert read_table(chunked).columns == read_table(whole).columns
    if suffix != ".parquet":  # it has a row group per chunk
        assert chunked.read_bytes() == whole.read_bytes()
    assert list(read_table(chunked).columns) == list(COLUMNS)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_what_fails_in_a_later_chunk_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_table(path, {"id": ["old"]})

    def failing():
        yield {"id": ["a"]}
        raise DataError("sample b cannot be read")

    with pytest.raises(DataError, match="sample b"):
        write_table(path, failing(), size=100)
    assert read_table(path).columns == {"id": ["old"]}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(UsageError, match=r"exists already; .*--force"):
        check_target(path)
    check_target(path, overwrite=True)
