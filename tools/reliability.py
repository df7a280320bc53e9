"""The README's tables on reliability, printed by cog: what was broken on purpose, and every bound with its reason.

`make docs` fails where a test that is named here is gone, or a bound has another value than the README says.
"""

from __future__ import annotations

from pathlib import Path

from tables import table

from usagetap import encoding, reader, rewrite
from usagetap.mitm import dashboard, estimates, incoming, quotes, refusals, resolve, retry, streams, tap, websocket
from usagetap.store import backing, journal, rows, writer
from usagetap.turns import base

TESTS = Path(__file__).parents[1] / "tests" / "mitm"

#: in each paragraph: the fault, what happens, the test
FAULTS = """
the database is locked by another process
after 25 ms rows go to a journal beside it; a lock of two seconds gets a line in the log; then each is taken in, once
test_faults.py::test_locked_by_another_process

… for a minute, over a stop and a start
likewise (takes a minute: `make test ARGS="-m slow"`; `make soak` does it under load)
test_faults.py::test_locked_for_a_minute

… and the proxy is killed meanwhile
the next start takes the journal in
test_faults.py::test_locked_and_then_kill_9

… from start to end
likewise
test_faults.py::test_locked_from_start_to_end

deleted while running
a new file is made, and the log says so
test_faults.py::test_deleted_while_running

replaced while running
the file that is there now is written
test_faults.py::test_replaced_while_running

corrupted at the start
left as it is; rows wait in the journal until there is another file
test_faults.py::test_corrupted_at_start

made by a newer version
not touched; rows wait in the journal for the upgrade
test_faults.py::test_newer_schema

a path that cannot be
rows wait in memory; the traffic goes on
test_faults.py::test_a_place_that_cannot_be

the disk is full, for the journal too
rows wait in memory, and are written when there is room
test_faults.py::test_disk_full

the disk stalls
after 40 ms rows go to the journal as well; beyond a bounded number they are in memory no longer
test_faults.py::test_a_disk_that_stalls

database and folder are read-only
rows wait in memory, and are written when they can be
test_faults.py::test_read_only

PostgreSQL crashes and comes back
rows wait in the journal
test_faults_postgres.py::test_a_server_that_crashes_and_comes_back

PostgreSQL is down from start to end
the next start takes the journal in
test_faults_postgres.py::test_a_server_that_is_down_from_start_to_end

PostgreSQL does not know the user
rows wait in the journal; the password is in no log line and no file
test_faults_postgres.py::test_a_user_whom_it_does_not_know

PostgreSQL's sessions are terminated
the next batch makes a new one
test_faults_postgres.py::test_sessions_that_are_terminated

PostgreSQL falls silent: it takes connections and bytes, and answers nothing
after three seconds its connection is cut, and rows go to the journal; then back, each once
test_faults_postgres.py::test_a_server_that_falls_silent

… when the proxy stops
the stop waits no longer than for a disk; the next start takes the journal in
test_faults_postgres.py::test_a_server_that_is_silent_when_the_proxy_stops

PostgreSQL's connections drop midway
the next batch makes a new one
test_faults_postgres.py::test_connections_that_drop_midway

PostgreSQL's table is locked
rows wait in the journal
test_faults_postgres.py::test_a_table_locked_by_another_session

the clock is set back by hours
a line in the log; durations stay true, no row is lost, and nobody is taken for dead
test_faults.py::test_a_clock_that_is_set_back

two proxies write one file
each its rows; neither takes the other's open ones for dead
test_faults.py::test_several_proxies_on_one_file

`kill -9` in mid-stream
what was queued 100 ms before is in the database; the next start ends open rows as `proxy_died`
test_ends.py::test_proxy_killed_in_mid_stream

the proxy is told to stop
streams end as `proxy_stopped`, with what they had told
test_ends.py::test_proxy_told_to_stop

the script is reloaded in mid-stream
the stream goes on, and so does its row
test_faults.py::test_script_reload_in_mid_stream

a bug of ours, in any hook or at any chunk
every byte passes; one line in the log per flow, which quotes nothing
test_fail_open.py::test_broken

… where a stream begins
it streams all the same
test_fail_open.py::test_a_stream_that_cannot_be_read_streams_all_the_same

… where a row ends
it ends all the same, flagged `truncated`
test_fail_open.py::test_a_row_that_cannot_be_concluded_ends_and_says_so

a client is slow, or another addon is
everything passes, and the row says how it ended
test_ends.py::test_a_slow_client_gets_everything

Early Hints, trailers: mitmproxy passes them over HTTP/2
so do we
test_ends.py::test_http2_passes_hints_and_trailers

… over HTTP/1 it breaks at them (mitmproxy#2229, #2474), and the client waits in vain
no worse with us, and the row tells what came
test_ends.py::test_http1_trailers_are_no_worse_with_us

an upstream refuses `stream_options`
the client's own request is sent; the client sees only that answer; the host is remembered
test_requests.py::test_a_refusal_is_answered_by_the_original_and_remembered

… and is upgraded
the list expires after 30 days: then the host is asked again
test_retry.py::test_what_was_learned_expires

the client leaves while the original is sent
the second try's upstream is closed too
test_retry.py::test_a_client_that_leaves_takes_the_second_try_with_it

a stream falls silent, or sends comments only (`usage_idle_timeout`)
recorded as `idle_timeout`, then cut, so that the client sees no end where there was none
test_idle.py::test_a_silent_stream_is_recorded_and_cut

hostile streams: a drip, a million frames, one without end, bombs, deep JSON, garbage
every byte passes, memory stays bounded, the row says what could be known
test_hostile.py::test_a_hostile_stream_passes_whole_and_costs_bounded_memory

a content-length that is wrong
what came is passed and recorded
test_hostile.py::test_wrong_lengths

terminal escapes in names, errors and paths
never reach the log raw
test_log.py::test_no_control_character_is_logged

an error that repeats the key or quotes the request
that is cut out of it; database, journal and log are searched for every kind of secret
test_secrets.py::test_nothing_secret_is_written

somebody else looks into the folder
database, journal, lock and secret are 0600
test_faults.py::test_files_are_private

hundreds of streams at once
each has its own row and count
test_limits.py::test_hundreds_of_streams_at_once

a WebSocket that goes on and on
flat memory
test_limits.py::test_a_long_socket_costs_flat_memory
"""


def faults() -> None:
    """What was broken on purpose, and what came of it. LookupError for a test that is not there."""
    told = [paragraph.splitlines() for paragraph in FAULTS.strip().split("\n\n")]
    for *_, test in told:
        file, _, name = test.partition("::")
        if f"def {name}(" not in (TESTS / file).read_text():
            raise LookupError(f"there is no {test} in {TESTS}")
    table(("fault", "what happens", "test in `tests/mitm`"), ((fault, what, f"`{test}`") for fault, what, test in told))


def bounds() -> None:
    """Every bound with its reason, from the constants themselves."""
    table(("bound", "at", "why, and what is beyond"), (*_of_responses(), *_of_requests(), *_of_rows()))


type Rows = tuple[tuple[str, str, str], ...]


def _of_responses() -> Rows:
    kept = websocket.KEPT_MESSAGES
    return (
        (
            "a frame that is parsed (`usage_frame_limit`)",
            _size(reader.FRAME_LIMIT),
            "frames with images have some MiB; a longer one passes unread, flagged `truncated`",
        ),
        ("a WebSocket message that is parsed", _size(base.FRAME_LIMIT), "the same, by the same option"),
        ("depth of JSON", "the parsers' own", "orjson's 1,024 levels, then Python's; what is deeper passes unread"),
        (
            "expansion of a compressed body",
            f"{encoding.BOMB_RATIO}× beyond {_size(encoding.BOMB_FLOOR)}",
            "recorded streams reach 40×, bombs 1,000×; those pass, and are expanded no further",
        ),
        (
            "chunks of a stream that wait to be read",
            f"{reader.BATCH}",
            f"read together they cost a third; fewer where they are large, some {_size(reader.BATCH_BYTES)} as a rule",
        ),
        ("decoded at a time", _size(encoding.PIECE), "the memory that a bomb below the ratio costs"),
        (
            "held back while stripping",
            _size(rewrite.STRIP_LIMIT),
            "more than any usage frame; a longer one passes as it is",
        ),
        (
            "kept of a stream for an estimate",
            _size(estimates.GATHERED),
            f"as it came; what follows is compressed, fifty to one, up to {_size(estimates.COUNTED)} before",
        ),
        ("kept of a stream for a UI (`usage_keep_body`)", _size(tap.UI_KEEPS), "more than a person reads"),
        (
            "messages of a WebSocket in memory",
            f"{kept:,} to {2 * kept:,}",
            "mitmproxy would keep all; the last ones stay for its UI",
        ),
        ("open turns of a WebSocket", f"{base.OPEN_LIMIT:,}", "no client has as many; the oldest is taken for lost"),
        ("ended turns that are remembered", f"{base.ENDED_LIMIT:,}", "so that a late event opens no new turn"),
        ("streams at once", "mitmproxy's own", "each costs its unfinished frame and some tens of kilobytes"),
    )


def _of_requests() -> Rows:
    return (
        (
            "a request body that is looked at",
            _size(incoming.BODY_LIMIT),
            "prompts with images have some 20 MiB; a larger one goes as it is (`too_large`)",
        ),
        (
            "a request gathered under `stream_large_bodies`",
            _size(streams.GATHER_LIMIT),
            "who sets that option wants little held; a longer one goes as it is",
        ),
        (
            "a second answer after a refusal",
            _size(retry.ANSWER_LIMIT),
            "it is held whole; beyond, the client gets the refusal",
        ),
        (
            "text of a request that an error may quote",
            _size(quotes.TEXT_LIMIT),
            "the latest first, some ten milliseconds; what is older is not looked for",
        ),
        (
            "refusals that are remembered",
            f"{refusals.LIMIT:,}, {refusals.EXPIRES / 86400:.0f} days",
            "a stranger's hosts must fill neither memory nor table, and servers are upgraded; the oldest are forgotten",
        ),
        (
            "generations that wait for their cost (`usage_resolve`)",
            f"{resolve.QUEUE_LIMIT:,}",
            "a further one stays unresolved",
        ),
    )


def _of_rows() -> Rows:
    return (
        (
            "rows that wait for the writer",
            f"{writer.QUEUE_LIMIT:,}",
            "a few kilobytes each; the journal takes what is beyond",
        ),
        ("the journal of one proxy", _size(journal.JOURNAL_LIMIT), "some 200,000 rows: a day without a database"),
        (
            "rows in memory while even the journal cannot be written",
            f"{backing.MEMORY_LIMIT:,}",
            "the oldest beyond are lost, and the log counts them",
        ),
        (
            "a turn of the writer that is stuck",
            f"{writer.STUCK * 1000:.0f} ms, {writer.STUCK_FAR:.0f} s with PostgreSQL",
            "a row is to be safe within 100 ms; then it goes to the journal as well",
        ),
        ("wait for another's lock", f"{backing.BUSY_TIMEOUT} ms", "a row is to be safe within 100 ms"),
        (
            "wait for an answer of PostgreSQL",
            f"{backing.PATIENCE:.0f} s",
            "a server that hangs would be waited for without end; then the journal",
        ),
        ("a text in a row", f"{rows.TEXT_LIMIT:,} characters", "so that a bound on rows is one on bytes; cut"),
        ("an error's message", f"{rows.ERROR_LIMIT:,} characters", "cut"),
        ("`usage_raw`", _size(rows.RAW_LIMIT), "real ones have some hundred bytes; beyond, its size is noted"),
        (
            "a CSV at `http://usage.it/`",
            _size(dashboard.HELD),
            "the proxy has to hold it; beyond, a sentence instead of a part (elsewhere it is written row by row)",
        ),
    )


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"
