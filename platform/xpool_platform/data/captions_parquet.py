"""Captions from Parquet. Only the columns are read: no metadata of pandas or others is used."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xpool_platform.data.caption_rows import COLUMNS, SECONDS, CaptionRow, caption_row
from xpool_platform.data.captions_csv import check_columns
from xpool_platform.data.plain_text import printable
from xpool_platform.data.text_files import MAX_BYTES, check_file
from xpool_platform.errors import UserError

ROWS_AT_ONCE = 1024
MAX_ROWS = 50_000_000
"""Compressed, a file within MAX_BYTES could have rows without end."""


def read_parquet(path: Path) -> list[CaptionRow]:
    """The rows in order, those that are wrong included; times are numbers, the rest strings.

    Raises UserError for a file that is no Parquet, is damaged, has other columns or types, or is
    too large when unpacked.
    """
    check_file(path)
    try:
        with pq.ParquetFile(path) as file:
            columns = _checked_columns(path, file.schema_arrow)
            return list(_rows(path, file.iter_batches(ROWS_AT_ONCE, columns=columns)))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {printable(str(error))}") from error


def _checked_columns(path: Path, schema: pa.Schema) -> list[str]:
    check_columns(path, schema.names)
    columns = [name for name in COLUMNS if name in schema.names]
    for name in columns:
        wanted = "numbers" if name in SECONDS else "strings"
        kind = schema.field(name).type
        if not (_is_number(kind) if name in SECONDS else _is_string(kind)):
            its = printable(str(kind))
            raise UserError(f"{path}: the column {name} is of type {its}, and should be {wanted}")
    return columns


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return any(
        is_type(kind)
        for is_type in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return any(is_type(kind) for is_type in (types.is_integer, types.is_floating, types.is_null))


def _rows(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[CaptionRow]:
    num_rows = num_bytes = 0
    for batch in batches:
        num_bytes += batch.nbytes
        if num_bytes > MAX_BYTES or num_rows > MAX_ROWS:
            raise UserError(
                f"{path} unpacks to more than {MAX_BYTES / 2**30:.0f} GiB or {MAX_ROWS} rows; "
                "leave captions out of it"
            )
        for number, values in enumerate(batch.to_pylist(), start=num_rows + 1):
            yield caption_row(f"row {number}", values)
        num_rows += len(batch)
