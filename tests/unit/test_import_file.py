"""An import's file becomes lines with their numbers, whatever is in it, and what is wrong is said, but not repeated."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.commands.import_file import LONGEST_LINE, FileFormat, UnreadableFileError, batches, read_lines
from worker.usecases.import_grants import Line

HEAD = "client,subject,refresh_token"
SECRET = "rt-of-somebody"


def read(
    content: bytes | str, *, name: str = "-", file_format: FileFormat | None = None, needs_client: bool = True
) -> list[Line]:
    """Read a file that holds this."""
    encoded = content.encode() if isinstance(content, str) else content
    stream = BytesIO(encoded)
    return list(read_lines(stream, name=Path(name), file_format=file_format, needs_client=needs_client))


def fields(content: bytes | str) -> list[object]:
    """Return the fields of each line, or what is wrong with it."""
    return [line.fields for line in read(content)]


def test_both_formats_say_the_same_and_count_lines_as_an_editor_does() -> None:
    """JSON Lines and CSV give the same fields; blank lines are passed over and counted; a byte order mark is none."""
    wanted = {"client": "a", "subject": "Zoë, the 2nd", "refresh_token": "r", "captured": {"shop": "berlin"}}
    as_json = "\ufeff" + json.dumps(wanted, ensure_ascii=False) + "\r\n\n  \n" + json.dumps(wanted) + "\n"
    as_csv = f'\ufeff{HEAD},captured.shop,email\r\n\r\n\r\na,"Zoë, the 2nd",r,berlin,\r\n'

    assert [(line.number, line.fields) for line in read(as_json)] == [(1, wanted), (4, wanted)]
    assert [(line.number, line.fields) for line in read(as_csv)] == [(4, wanted)]
    assert read(as_json)[-1].end == len(as_json.encode())


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_separated_as_spreadsheets_do_it(delimiter: str) -> None:
    """Commas, semicolons and tabs separate, by what the first line has; a quoted cell holds them and doubled quotes."""
    first = delimiter.join(HEAD.split(","))
    line = delimiter.join(["a", f'"one {delimiter} ""two"""', "r"])

    assert fields(f"{first}\n{line}\n") == [{"client": "a", "subject": f'one {delimiter} "two"', "refresh_token": "r"}]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"nonsense", "is not JSON: Expecting value at character 1"),
        (b'{"refresh_token": "rt-of-somebody', "is not JSON: Unterminated string at character 19"),
        (b'["rt-of-somebody"]', "is no JSON object"),
        (b'{"a": 1, "a": "rt-of-somebody"}', "names a field twice"),
        (b"[" * 100_000, "is no JSON that can be read"),
        (b"1" * 5000, "is no JSON that can be read"),
        (b'{"a": "\xff rt-of-somebody"}', "is not UTF-8"),
        (b'{"a": "' + b"x" * LONGEST_LINE + b'"}', "is longer than 256 KiB"),
    ],
    ids=["no JSON", "cut off", "no object", "twice", "deep", "number", "bytes", "long"],
)
def test_a_bad_line_of_json_spoils_no_other(line: bytes, fault: str) -> None:
    """What is wrong with a line is said in its place, without its content, and the next one is read as ever."""
    good = b'{"client": "a"}'

    lines = read(good + b"\n" + line + b"\n" + good, file_format=FileFormat.JSONL)

    assert [(found.number, found.fields) for found in lines] == [(1, {"client": "a"}), (2, fault), (3, {"client": "a"})]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('a,"s,rt-of-somebody', "is no CSV: a quotation mark is missing or in a wrong place"),
        ('a,"s"x,rt-of-somebody', "is no CSV: a quotation mark is missing or in a wrong place"),
        ("a,s", "has 2 cells, and the first line names 3 fields"),
        ("a,s,rt-of-somebody,more", "has 4 cells, and the first line names 3 fields"),
    ],
)
def test_a_bad_line_of_csv_spoils_no_other(line: str, fault: str) -> None:
    """A quotation mark that is never closed ends with its line."""
    good = {"client": "a", "subject": "s", "refresh_token": "r"}

    assert fields(f"{HEAD}\na,s,r\n{line}\na,s,r\n") == [good, fault, good]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is empty"),
        ("\n \n", "it is empty"),
        ('[{"client": "a"}]', "it is a JSON array: `jq -c '.[]' FILE` makes JSON Lines of it"),
        (HEAD.encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        (b"\xff\xff", "its first line is not UTF-8"),
        (
            "client,subject,refresh_tokn\n",
            "its first line must name the fields: 'refresh_tokn' is no field (did you mean 'refresh_token'?)",
        ),
        ("client,subject\n", "its first line must name the fields, and refresh_token is missing"),
        ("subject,refresh_token\n", "its first line must name the fields, and client is missing"),
        ("client,client,subject,refresh_token\n", "its first line names a field twice"),
    ],
)
def test_a_file_that_is_none_is_said_to_be_so(content: str | bytes, why: str) -> None:
    """What is wrong with the whole file is one line with what to do."""
    with pytest.raises(UnreadableFileError) as caught:
        read(content)

    assert str(caught.value) == why


def test_a_file_without_names_is_not_repeated() -> None:
    """Where the first line holds values instead of names, none of them is in the message."""
    with pytest.raises(UnreadableFileError, match="none of the fields is known") as caught:
        read(f"askara-main,customer-42,{SECRET}\n")

    assert SECRET not in str(caught.value)


def test_the_format_is_told_by_option_name_or_content() -> None:
    """An option counts before the name's ending, and that before the first character."""
    csv = f"{HEAD}\na,s,r\n"

    assert isinstance(read(csv, name="grants.jsonl")[0].fields, str)
    assert read(csv, name="grants.jsonl", file_format=FileFormat.CSV) == read(csv)
    assert read('{"a": 1}', name="grants.ndjson")[0].fields == {"a": 1}
    assert read("subject,refresh_token\ns,r\n", needs_client=False)[0].fields == {"subject": "s", "refresh_token": "r"}


def test_batches_are_of_so_many_lines_or_of_so_many_bytes() -> None:
    """Ordinary lines come in full batches; of very long ones few are held at once."""
    short = read("{}\n" * 25)
    long = read((json.dumps({"a": "x" * (LONGEST_LINE // 2)}) + "\n") * 100)

    assert [len(batch) for batch in batches(iter(short), 10)] == [10, 10, 5]
    assert max(len(batch) for batch in batches(iter(long), 1_000)) < 40
    assert [line for batch in batches(iter(long), 1_000) for line in batch] == long


@settings(deadline=None)
@given(content=st.binary(max_size=400), first=st.sampled_from([b"", b"{}\n", f"{HEAD}\n".encode()]))
def test_nothing_in_a_file_stops_the_reading(content: bytes, first: bytes) -> None:
    """Any bytes give lines in ascending order that end with the file, or one reason for the whole file."""
    try:
        lines = read(first + content)
    except UnreadableFileError as error:
        assert str(error).isprintable()  # noqa: PT017 -- either is right
        return
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    assert all(line.end <= len(first + content) for line in lines)
