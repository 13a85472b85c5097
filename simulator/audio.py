"""Speech out of text and text out of speech: fixed sounds and sentences in the forms that clients expect."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncGenerator, Mapping

from simulator import fields
from simulator.answers import json_response
from simulator.errors import InvalidParameterError
from simulator.fields import parse_body
from simulator.multipart import read_form, required_text
from simulator.responses import STREAM_END, event
from simulator.service import Service
from simulator.streaming import STREAM_HEADERS
from simulator.wire import Request, Response, Stream

OMNI_VOICES = ("aiden", "dylan", "eric", "one_anna", "ryan", "serena", "sohee", "uncle_fu", "vivian")
VOICES = frozenset({"alloy", "echo", "fable", "onyx", "nova", "shimmer", *OMNI_VOICES})
CONTENT_TYPES: Mapping[str, str] = {
    "mp3": "audio/mpeg", "opus": "audio/opus", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip
MAGIC: Mapping[str, bytes] = {"mp3": b"ID3", "opus": b"OggS", "aac": b"\xff\xf1", "flac": b"fLaC", "pcm": b""}
SAMPLE_RATE = 8000
SAMPLES_PER_CHARACTER = 80
MOST_SAMPLES = 80_000
SPOKEN = "This is a transcription by a simulated engine."
DURATION_SECONDS = 5.5
TRANSCRIPT_FORMATS = frozenset({"json", "verbose_json", "text", "srt", "vtt"})


async def voices(_service: Service, _request: Request) -> Response:
    return json_response({"voices": list(OMNI_VOICES)})


async def speech(service: Service, request: Request) -> Response:
    """Answer silence as long as the text would take to say."""
    body = parse_body(request.body)
    text = fields.string(fields.required(body, "input"), "body.input")
    if not text:
        raise InvalidParameterError("input must not be empty", "input")
    if body.get("model") is not None:
        service.adapter_of(fields.string(body["model"], "body.model"))
    voice = body.get("voice")
    if voice is not None and not (isinstance(voice, str) and voice in VOICES):
        raise InvalidParameterError(f"voice must be one of {', '.join(sorted(VOICES))}.", "voice", voice)
    form = body.get("response_format", "mp3")
    if not (isinstance(form, str) and form in CONTENT_TYPES):
        raise InvalidParameterError(
            f"response_format must be one of {', '.join(CONTENT_TYPES)}.", "response_format", form
        )
    headers = {"content-type": CONTENT_TYPES[form], "content-disposition": f'attachment; filename="speech.{form}"'}
    return Response(200, sound(form, len(text)), headers)


def sound(form: str, characters: int) -> bytes:
    """Return silence; a real file for `wav`, for compressed formats their first bytes and zeros."""
    silence = bytes(2 * min(characters * SAMPLES_PER_CHARACTER, MOST_SAMPLES))
    if form == "wav":
        return wave_header(len(silence)) + silence
    return MAGIC[form] + silence


def wave_header(size: int) -> bytes:
    """Return the 44 bytes before 16-bit mono samples of `size` bytes."""
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + layout + struct.pack("<4sI", b"data", size)


async def transcriptions(service: Service, request: Request) -> Response | Stream:
    return await _transcript(service, request, "transcribe")


async def translations(service: Service, request: Request) -> Response | Stream:
    return await _transcript(service, request, "translate")


async def _transcript(service: Service, request: Request, task: str) -> Response | Stream:
    form = read_form(request)
    service.adapter_of(required_text(form, "model"))
    file = form.get("file")
    if file is None or not file.content:
        raise InvalidParameterError("'file' is a required parameter and must not be empty", "file")
    shape = form["response_format"].text if "response_format" in form else "json"
    if shape not in TRANSCRIPT_FORMATS:
        raise InvalidParameterError(
            f"response_format must be one of {', '.join(sorted(TRANSCRIPT_FORMATS))}.", "response_format"
        )
    if "stream" in form and form["stream"].text.lower() == "true":
        return Stream(_words(task), headers=STREAM_HEADERS)
    if shape == "json":
        return json_response({"text": SPOKEN})
    if shape == "verbose_json":
        return json_response(_verbose(task))
    subtitle = f"00:00:00{{0}}000 --> 00:00:05{{0}}500\n{SPOKEN}\n"
    texts = {"text": SPOKEN, "srt": "1\n" + subtitle.format(","), "vtt": "WEBVTT\n\n" + subtitle.format(".")}
    return Response(200, texts[shape].encode(), {"content-type": "text/plain; charset=utf-8"})


def _verbose(task: str) -> dict[str, object]:
    words = SPOKEN.split()
    step = DURATION_SECONDS / len(words)
    spoken = [
        {"word": word, "start": round(place * step, 2), "end": round((place + 1) * step, 2)}
        for place, word in enumerate(words)
    ]
    segment = {
        "id": 0, "seek": 0, "start": 0.0, "end": DURATION_SECONDS, "text": SPOKEN, "tokens": [], "temperature": 0.0,
        "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.01,
    }  # fmt: skip
    return {
        "task": task, "language": "english", "duration": DURATION_SECONDS, "text": SPOKEN, "words": spoken,
        "segments": [segment],
    }  # fmt: skip


async def _words(task: str) -> AsyncGenerator[bytes, None]:
    name = f"{'transcription' if task == 'transcribe' else 'translation'}.chunk"
    for word in SPOKEN.split():
        yield event({"object": name, "choices": [{"delta": {"content": f"{word} "}, "finish_reason": None}]})
    yield event({"object": name, "choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]})
    yield STREAM_END


def spoken_reply(text: str) -> dict[str, object]:
    """Return the `audio` of a chat message that speaks `text`."""
    return {"data": base64.b64encode(sound("wav", len(text))).decode(), "format": "wav"}
