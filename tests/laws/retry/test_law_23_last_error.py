"""
Law 23: `attempts` counts attempts; the last error is raised itself, with one note, and grows with nothing.
"""

import contextlib
import gc
import traceback
import weakref

import anyio
import pytest
from tenacity import stop_after_attempt, wait_none

from resilience import Pipeline, Retry, Timeout
from resilience.testing import Script

OURS = "resilience: "


def our_notes(error):
    return [note for note in getattr(error, "__notes__", ()) if note.startswith(OURS)]


def entries(error):
    return len(list(traceback.walk_tb(error.__traceback__)))


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
async def test_attempts_counts_the_first_attempt_too(backend, attempts):
    """
    `attempts=n` enters the callee n times, not n times more (law 23; hyx makes one too many).
    """
    script = Script(OSError)

    with pytest.raises(OSError, match=f"step {attempts}"):
        await Retry(attempts, on=OSError, wait=wait_none())(script)

    assert attempts == script.calls


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 3),
        ({"attempts": 5, "stop": stop_after_attempt(2)}, 2),
        ({"attempts": 2, "stop": stop_after_attempt(5)}, 2),
        ({"stop": stop_after_attempt(5)}, 5),
        ({"stop": lambda state: state.attempt_number == 4}, 4),
    ],
    ids=["default", "stop first", "attempts first", "stop alone", "a plain function"],
)
async def test_whichever_stops_first_stops(backend, options, calls):
    """
    With `stop` given as well as `attempts`, whichever stops first; `stop` alone lifts the default of three (law 23).
    """
    script = Script(OSError)

    with pytest.raises(OSError, match="step"):
        await Retry(on=OSError, wait=wait_none(), **options)(script)

    assert calls == script.calls


async def test_the_last_error_is_raised_itself(backend):
    """
    What is raised is the object that the last attempt raised: no copy, no wrapper, none of before (law 23).
    """
    errors = [OSError(1), ConnectionError(2), TimeoutError(3)]

    with pytest.raises(OSError) as caught:  # noqa: PT011 - the identity is asserted
        await Retry(on=OSError, wait=wait_none())(Script(*errors))

    assert errors[2] is caught.value
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_an_error_not_worth_retrying_is_raised_itself_and_at_once(backend):
    """
    What `on` does not name ends the call in its first attempt, without a note: nothing is to be summed up (law 23).
    """
    error = ValueError("no")
    script = Script(error)

    with pytest.raises(ValueError, match="no") as caught:
        await Retry(on=OSError, wait=wait_none())(script)

    assert error is caught.value
    assert 1 == script.calls
    assert [] == our_notes(error)


async def test_one_note_names_the_attempts_before(backend):
    """
    One note says how many attempts there were, why no more, and how the earlier ones ended (law 23).
    """
    with pytest.raises(TimeoutError) as caught:
        await Retry(on=OSError, wait=wait_none())(Script(ConnectionError, OSError, TimeoutError))

    (note,) = our_notes(caught.value)
    assert "attempt 3 (attempts)" in note
    assert "earlier: ConnectionError, OSError" in note


async def test_the_note_is_replaced_and_those_of_others_stay(backend):
    """
    An instance raised by call after call carries one note of ours, the newest, and all of the user's (law 23).
    """
    error = OSError("kept by the callee")
    error.add_note("written by the user")
    guarded = Retry(2, on=OSError, wait=wait_none()).wrap(Script(error))
    longer = Retry(4, on=OSError, wait=wait_none()).wrap(Script(error))

    for each in (guarded, guarded, longer):
        with pytest.raises(OSError, match="kept"):
            await each()

    (note,) = our_notes(error)
    assert "attempt 4" in note
    assert "written by the user" in error.__notes__
    assert 2 == len(error.__notes__)


async def test_an_error_that_takes_no_notes_is_raised_all_the_same(backend):
    """
    A note that cannot be left is left out; the error is what the caller gets (law 23, law 6).
    """

    class SealedError(OSError):
        @property
        def __notes__(self):
            raise RuntimeError("no notes here")

    error = SealedError()
    with pytest.raises(SealedError) as caught:
        await Retry(2, on=OSError, wait=wait_none())(Script(error))

    assert error is caught.value


async def raised_by(guarded):
    try:
        await guarded()
    except OSError as error:
        return entries(error)
    raise AssertionError("nothing was raised")


async def test_the_traceback_does_not_grow_with_attempts(backend):
    """
    The same instance raised fifty times has the traceback of one attempt (law 23).
    """
    few, many = OSError("few"), OSError("many")

    expected = await raised_by(Retry(2, on=OSError, wait=wait_none()).wrap(Script(few)))
    found = await raised_by(Retry(50, on=OSError, wait=wait_none()).wrap(Script(many)))

    assert expected == found
    assert many.__context__ is None


@pytest.mark.parametrize("attempts", [1, 3])
async def test_the_traceback_does_not_grow_with_calls(backend, attempts):
    """
    An instance the callee keeps and raises in call after call does not collect the tracebacks of all calls (law 23).
    """
    error = OSError("kept by the callee")
    guarded = Pipeline(Timeout(100), Retry(attempts, on=OSError, wait=wait_none())).wrap(
        Script(error)
    )

    sizes = [await raised_by(guarded) for _ in range(20)]

    # Where a single attempt was made, the frames from the caller to the retry of one call before stay behind it.
    assert 1 == len(set(sizes[1:]))
    assert sizes[1] <= 2 * sizes[0]
    assert error.__context__ is None


async def test_the_traceback_is_bounded_when_two_pipelines_take_turns(backend):
    """
    One instance raised through two retries in turn does not collect the turns before (law 23).
    """
    error = OSError("kept by the callee")
    first = Retry(2, on=OSError, wait=wait_none()).wrap(Script(error))
    second = Retry(2, on=OSError, wait=wait_none()).wrap(Script(error))

    sizes = [await raised_by(each) for _ in range(10) for each in (first, second)]

    assert max(sizes) == max(sizes[:4])


async def test_the_frames_of_the_callee_are_kept(backend):
    """
    What is cut off is older than this attempt: where the callee raised is still to be read (law 23).
    """
    error = OSError("kept by the callee")

    async def deep():
        await anyio.lowlevel.checkpoint()
        raise error

    async def callee():
        await deep()

    guarded = Retry(3, on=OSError, wait=wait_none()).wrap(callee)
    for _ in range(2):
        with pytest.raises(OSError, match="kept"):
            await guarded()

    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert ["callee", "deep"] == names[-2:]
    assert 1 == names.count("deep")


async def test_the_callees_own_chain_is_kept(backend):
    """
    Cause and context that the callee gave its error are the callee's, and stay (law 23).
    """

    async def callee():
        try:
            {}["inner"]
        except KeyError as inner:
            raise OSError("outer") from inner

    with pytest.raises(OSError, match="outer") as caught:
        await Retry(3, on=OSError, wait=wait_none())(callee)

    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__ is caught.value.__context__
    assert caught.value.__cause__.__context__ is None


@pytest.mark.parametrize("ends_well", [True, False])
async def test_nothing_holds_the_errors_of_earlier_attempts(backend, ends_well):
    """
    After the call the earlier errors are gone without the help of the collector: no cycle holds their frames (R11).
    """
    seen = []

    class FaultError(OSError):
        pass

    async def callee():
        if ends_well and len(seen) == 2:
            return "well"
        error = FaultError()
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(FaultError):
            await Retry(3, on=OSError, wait=wait_none())(callee)
        alive = [ref() is not None for ref in seen]
    finally:
        gc.enable()

    assert [False] * len(seen) == alive
    assert (2 if ends_well else 3) == len(seen)
