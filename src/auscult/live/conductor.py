"""Conductor: a run that goes on as one sound without a gap, which hears of the run's steps when they are written."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from auscult.core.score import SoundEvent
from auscult.live.trail import Look, Place, Trail
from auscult.sound.earcons import name_of
from auscult.sound.stream import BEAT, Aim, Samples, Stream
from auscult.sound.vitals import TIMBRES, VOICES

GRACE = 0.05  # seconds that a beat waits for a look; a long run takes longer to read
FADES_AFTER = 2.0  # seconds without a step, and
FADES_AFTER_STEPS = 4.0  # times as long as one usually takes: the sound becomes softer
FADED = 10 ** (-18 / 20)
AGAIN = 2.0  # seconds between two alarms
MOST = 3  # earcons of a beat; more are told in words only
HEART = round(1.0 / BEAT)  # beats between two of the heart

FIRST = ("nan", "critical", "stalled", "warning", "info", "excursion")  # of several earcons in one beat


def beats(trail: Trail, sample_rate: int = 44_100) -> Iterator[tuple[Samples, Look]]:
    """The sound of a run, a tenth of a second at a time, until the run is closed, and what is new in each.

    Every beat looks for new steps, and goes on without them if that takes long; without any the voices hold, become
    soft, and fall silent when the run stands still.

    Args:
        trail: Where to look.
        sample_rate: Frames per second.

    Raises:
        StoreError: if the run cannot be read any more.
    """
    stream = _stream((), sample_rate)
    alarmed = -AGAIN
    beating = 0
    names: list[str] = []
    for look in _looks(trail):
        wanted = [each.name for each in look.places]
        if wanted != names and stream.silent:
            names = wanted
            stream = _stream(look.places, sample_rate)
            alarmed = -AGAIN
        earcons = _earcons(look.events, with_alarm=stream.seconds - alarmed >= AGAIN)
        if "nan" in earcons:
            alarmed, beating = stream.seconds, 0
        broken = any(each.broken for each in look.places)
        beating = beating + 1 if broken else 0
        heart = broken and look.state == "training" and beating > 2 * HEART and beating % HEART == 0
        level = _level(look)
        aims = [_aim(each, level) for each in look.places] if wanted == names else [Aim(level=0.0)] * len(VOICES)
        yield stream.beat(aims, earcons, heart), look
        if look.state == "finished" and stream.silent:
            break


def _looks(trail: Trail) -> Iterator[Look]:
    """A look whenever one is asked for; the one before without what was new in it while the next is not ready."""
    with ThreadPoolExecutor(1) as reader:
        look = trail.look()
        pending: Future[Look] | None = None
        while True:
            yield look
            look = replace(look, first=look.last + 1, events=())
            if look.state != "finished":
                pending = pending or reader.submit(trail.look)
                wait([pending], GRACE)
                if pending.done():
                    look, pending = pending.result(), None


def _stream(places: Sequence[Place], sample_rate: int) -> Stream:
    if len(places) == 1:
        return Stream([(TIMBRES[1], 0.0)], sample_rate)
    return Stream([(timbre, pan) for _, timbre, pan in VOICES], sample_rate)


def _aim(place: Place, level: float) -> Aim:
    heard = not (place.broken or place.missing) and (place.zero or place.distance is not None)
    return Aim(place.distance, level if heard else 0.0, place.zero)


def _level(look: Look) -> float:
    if look.state in ("stalled", "crashed") or (look.state == "finished" and look.last < look.first):
        return 0.0
    return 1.0 if look.waiting <= max(FADES_AFTER, FADES_AFTER_STEPS * look.usual) else FADED


def _earcons(events: Sequence[SoundEvent], with_alarm: bool) -> list[str]:
    """Names of the earcons of some events, the most urgent first, each once."""
    wanted = {name_of(each) for each in events}
    return [name for name in FIRST if name in wanted and (name != "nan" or with_alarm)][:MOST]
