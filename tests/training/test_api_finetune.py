"""What holds for fine-tuning at a server: one job whatever happens, its cost, strict answers, no key kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetuning_server import FinetuningServer, tuning

from karat import records, registry
from karat.errors import BadSetting, BudgetSpent, InputError, ProviderError
from karat.generation.base import Message, Request
from karat.training.base import Predictions, Written
from karat.training.finetuning_rows import NO_ANSWER, Form, most_tokens
from karat.training.trainers.api_finetune import ApiFinetune

PROGRAM = Path(__file__).with_name("killed_finetuning.py")
KEY = "sk-test-0123456789abcdef0123"
TRAIN = records.from_rows(
    [
        {"id": f"r{i}", "text": f"{word} number {i}", "label": label}
        for i in range(6)
        for word, label in [("dogs cats", "animal"), ("rain snow", "weather")][i % 2 : i % 2 + 1]
    ]
)
TEST = records.from_rows(
    [{"text": "cats again", "label": "animal"}, {"text": "more snow", "label": "weather"}]
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's owner has set is no matter here."""
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FinetuningServer]:
    with tuning() as running:
        yield running


def trainer(server: FinetuningServer, folder: Path, **settings: Any) -> ApiFinetune:
    return ApiFinetune("base", server.url, **{"state": str(folder / "state"), "poll": 0.02, **settings})


def test_labels_are_learned_and_told(server: FinetuningServer, tmp_path: Path) -> None:
    """Rows go out as conversations, unseen texts are labelled, and the cost is what the server counted."""
    told: list[str] = []
    made = trainer(server, tmp_path, epochs=2, price=5.0)
    model = made.fit(TRAIN, seed=7, validation=TEST, progress=lambda stage, *_: told.append(stage))
    body = server.bodies[0]
    assert {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}} == body["method"]
    assert 7 == body["seed"]
    rows = server.content[body["training_file"]]
    assert ["system", "user", "assistant"] == [m["role"] for m in rows[0]["messages"]]
    assert TRAIN.texts() == [row["messages"][1]["content"] for row in rows]
    assert TRAIN.labels() == [row["messages"][2]["content"] for row in rows]
    assert 2 == len(server.content[body["validation_file"]])
    assert "animal, weather" in rows[0]["messages"][0]["content"]
    assert "fine-tuning: running" in told

    found = model.predict(TEST)
    assert isinstance(found, Predictions)
    assert ("animal", "weather") == found.classes
    assert found.gold == found.labels
    # ln 0.9 for the first letters of one label; the tenth that is left is shared by both
    np.testing.assert_allclose([[0.95, 0.05], [0.05, 0.95]], found.probabilities, atol=1e-6)

    words = sum(len(m["content"].split()) for row in rows for m in row["messages"])
    assert 2 * words == model.trained_tokens
    assert 2 * words * 5.0 / 1e6 == pytest.approx(model.training_usd)
    assert ((f"{model.model}:ckpt-step-7", 7),) == model.checkpoints
    assert 2 * words < most_tokens(made._work(model.form, TRAIN, None, 7).rows) * 2


def test_the_same_command_takes_the_same_job(server: FinetuningServer, tmp_path: Path) -> None:
    """Records, settings and seed name a job: the same ones never make a second; others do."""
    made = trainer(server, tmp_path)
    first = made.fit(TRAIN, seed=1)
    first.predict(TEST)
    again = made.fit(TRAIN, seed=1)
    assert first.model == again.model
    again.predict(TEST)
    assert (1, 1) == (server.paid, len(server.files))
    assert {1} == set(server.asked.values()), "answers are kept too"
    made.fit(TRAIN, seed=2)
    made.fit(TRAIN.take([0, 1, 2, 3]), seed=1)
    trainer(server, tmp_path, epochs=1).fit(TRAIN, seed=1)
    assert 4 == server.paid


def test_a_lost_state_folder_costs_nothing(server: FinetuningServer, tmp_path: Path) -> None:
    """From another folder, the job is found at the server by its metadata, behind pages of others."""
    first = trainer(server, tmp_path / "a").fit(TRAIN, seed=1)
    for seed in range(2, 6):
        trainer(server, tmp_path / "a").fit(TRAIN, seed=seed)
    assert first.model == trainer(server, tmp_path / "b").fit(TRAIN, seed=1).model
    assert 5 == server.paid


MOMENTS = (
    "before upload 1",  # nothing is there
    "after upload 1",  # the file is there, and its name is lost
    "after write 1",  # the file is noted
    "after write 2",  # it is noted that a job may exist
    "after make 1",  # the job exists and is paid for, and its name is lost
    "after write 3",  # the job is noted
    "after look 1",  # it is under way
    "before write 5",  # it has succeeded, which is not noted yet
)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills need POSIX")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_boundary_pays_once(server: FinetuningServer, tmp_path: Path, moment: str) -> None:
    """Killed without warning between two steps, the same command ends with the same one job and one file."""
    TRAIN.write(tmp_path / "train.jsonl")
    given = [server.url, str(tmp_path / "state"), str(tmp_path / "train.jsonl")]
    ran = subprocess.run(
        [sys.executable, PROGRAM, *given, moment], capture_output=True, text=True, timeout=60
    )
    assert -signal.SIGKILL == ran.returncode, ran.stderr
    model = trainer(server, tmp_path).fit(records.read(tmp_path / "train.jsonl"), seed=1)
    assert (1, 1) == (server.paid, len(server.files))
    assert model.model == server.jobs["ftjob-1"]["fine_tuned_model"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills need POSIX")
def test_a_kill_while_the_job_is_being_made_pays_once(server: FinetuningServer, tmp_path: Path) -> None:
    """Killed when the server has made the job and has not answered yet, the job is found."""
    TRAIN.write(tmp_path / "train.jsonl")
    given = [server.url, str(tmp_path / "state"), str(tmp_path / "train.jsonl"), ""]
    ready, victim = threading.Event(), []

    def kill() -> None:
        ready.wait(30)
        os.kill(victim[0], signal.SIGKILL)

    server.then["create"] = kill
    program = subprocess.Popen([sys.executable, PROGRAM, *given])
    victim.append(program.pid)
    ready.set()
    assert -signal.SIGKILL == program.wait(60)
    trainer(server, tmp_path).fit(records.read(tmp_path / "train.jsonl"), seed=1)
    assert (1, 1) == (server.paid, len(server.files))


def test_two_at_a_time_share_one_job(server: FinetuningServer, tmp_path: Path) -> None:
    """Processes that start at the same moment wait for each other and end with one job."""
    TRAIN.write(tmp_path / "train.jsonl")
    given = [server.url, str(tmp_path / "state"), str(tmp_path / "train.jsonl"), ""]
    both = [
        subprocess.Popen([sys.executable, PROGRAM, *given], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {one.communicate(timeout=60)[0] for one in both}
    assert (1, 1) == (len(said), server.paid)


def test_a_server_that_is_busy_or_broken_for_a_while_is_waited_for(
    server: FinetuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 with Retry-After, 500, a cut line, a file that is not ready: one job, after the waits asked for."""
    waits: list[float] = []
    real = asyncio.sleep

    async def noted(seconds: float, *rest: Any) -> None:
        waits.append(seconds)
        await real(min(seconds, 0.01), *rest)

    monkeypatch.setattr(asyncio, "sleep", noted)
    server.faults["upload"] += [(429, {"Retry-After": "7"}), (500, {}), "cut"]
    server.faults["create"] += [(429, {"Retry-After": "11"}), "cut"]
    server.faults["look"] += [(503, {"Retry-After": "13"}), (429, {}), "cut"]
    server.faults["chat"] += [(429, {"Retry-After": "0.01"}), (500, {})]
    server.unready = 2
    model = trainer(server, tmp_path).fit(TRAIN)
    assert 1 == server.paid
    assert {7.0, 11.0, 13.0} <= set(waits)
    found = model.predict(TEST)
    assert isinstance(found, Predictions)
    assert found.gold == found.labels
    assert not any(server.faults.values())


def test_a_creation_that_failed_in_doubt_is_looked_for_before_it_is_tried_again(
    server: FinetuningServer, tmp_path: Path
) -> None:
    """A 500 to a creation may have made the job or not: where the list shows none, it is made, once."""
    server.faults["create"] += [(500, {}), (502, {})]
    trainer(server, tmp_path).fit(TRAIN)
    assert (3, 1) == (server.seen["create"], server.paid)
    assert server.seen["list"] >= 3


def test_without_a_list_a_doubt_stays_a_doubt(server: FinetuningServer, tmp_path: Path) -> None:
    """Where the server keeps no list, nobody pays a second time on a guess, in this run or the next."""
    server.lists = False
    server.faults["create"] += ["cut"]
    for _ in range(2):
        with pytest.raises(ProviderError, match="does not say whether it made the fine-tuning job"):
            trainer(server, tmp_path).fit(TRAIN)
    assert 1 == server.paid
    trainer(server, tmp_path / "other").fit(TRAIN)
    assert 2 == server.paid


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": "invalid", "message": "row 3 breaks the rules"}, "row 3 breaks the rules"),
        (None, "the loss rose"),
    ],
)
def test_a_failed_job_is_told_in_the_servers_words(
    server: FinetuningServer, tmp_path: Path, error: Any, words: str
) -> None:
    """What the job or its events say stands in the error; the next run makes a new job of the same file."""
    server.ends, server.error = "failed", error
    with pytest.raises(ProviderError, match=f"ftjob-1 failed: {words}; the same command makes a new job"):
        trainer(server, tmp_path).fit(TRAIN)
    server.ends = "succeeded"
    assert "ftjob-2" in trainer(server, tmp_path).fit(TRAIN).model
    assert (2, 1) == (server.paid, len(server.files))


def test_a_job_can_be_cancelled(server: FinetuningServer, tmp_path: Path) -> None:
    """Cancelling ends the job that is noted; without one it says so; and who waits is told."""
    made = trainer(server, tmp_path, hours=0.001 / 3.6)
    with pytest.raises(InputError, match="no fine-tuning job"):
        made.cancel(TRAIN)
    server.looks = 1000
    with pytest.raises(ProviderError, match=r"still (running|queued) after .* stays noted"):
        made.fit(TRAIN)
    assert "cancelled" == made.cancel(TRAIN)
    with pytest.raises(ProviderError, match="ftjob-1 was cancelled at the server"):
        made.fit(TRAIN)


def test_what_might_be_too_dear_is_not_sent(server: FinetuningServer, tmp_path: Path) -> None:
    """Above the cap, or at a price that nobody knows, no byte goes out; below it, it does."""
    with pytest.raises(BudgetSpent, match="nothing was sent"):
        trainer(server, tmp_path, price=1e6, max_usd=1.0).fit(TRAIN)
    with pytest.raises(BadSetting, match="give epochs too"):
        trainer(server, tmp_path, price=1.0, max_usd=1.0, epochs=0).fit(TRAIN)
    with pytest.raises(BadSetting, match="give price=USD"):
        ApiFinetune("base", max_usd=1.0, state=str(tmp_path)).fit(TRAIN)
    assert not server.seen
    form = Form.of(TRAIN)
    bound = most_tokens(form.rows(TRAIN)) * 3
    model = trainer(server, tmp_path, price=1.0, max_usd=bound / 1e6).fit(TRAIN)
    assert model.training_usd < bound / 1e6
    # resumed, the job is taken though the cap is lower now: it is paid for already
    cheap = trainer(server, tmp_path, price=1.0, max_usd=1e-9, price_in=1.0, price_out=1.0)
    again = cheap.fit(TRAIN)
    assert 1 == server.paid
    with pytest.raises(BudgetSpent):
        again.predict(TEST)
    assert not server.asked
    assert ApiFinetune("base").training_price is None


def test_answers_are_read_strictly(server: FinetuningServer, tmp_path: Path) -> None:
    """Case, spaces and a stop are forgiven; words around a label, others and refusals count as none."""
    test = records.from_rows([{"text": t, "label": "animal"} for t in ("one", "two", "three", "four")])
    server.says = {"one": " Animal.\n", "two": "It is an animal", "three": "plant", "four": "animal"}
    server.looks = 1
    model = trainer(server, tmp_path, logprobs=0).fit(TRAIN)
    found = model.predict(test)
    assert isinstance(found, Predictions)
    assert ("animal", NO_ANSWER, NO_ANSWER, "animal") == found.labels
    assert 2 == model.asked.invalid
    np.testing.assert_allclose(1, found.probabilities.sum(axis=1))
    server.faults["chat"] += [(400, {})]
    text = records.from_rows([{"text": "five", "label": "animal"}])
    refused = model.predict(text)
    assert isinstance(refused, Predictions)
    assert (NO_ANSWER,) == refused.labels
    assert list(text.ids) == list(model.asked.failures)


def test_texts_are_written(server: FinetuningServer, tmp_path: Path) -> None:
    """Translations and instructions give texts beside their references; the model is a provider too."""
    pairs = records.from_rows([{"source": f"eins {w}", "target": f"one {w}"} for w in ("hund", "katze")])
    model = trainer(server, tmp_path).fit(pairs)
    found = model.predict(pairs)
    assert isinstance(found, Written)
    assert found.references == found.texts
    assert ("eins hund", "eins katze") == found.sources
    asked = Request("q", (Message("user", "noch ein katze"),), max_tokens=9)
    assert 1 == model.batch_size

    async def ask() -> str:
        try:
            return (await model.complete([asked]))[0].text
        finally:
            await model.close()

    assert "one katze" == asyncio.run(ask())
    told = records.from_rows([{"prompt": "say a", "completion": "a"}, {"prompt": "say b", "completion": "b"}])
    written = trainer(server, tmp_path).fit(told).predict(told)
    assert isinstance(written, Written)
    assert ("a", "b") == written.texts
    with pytest.raises(InputError, match="tuned on translation records"):
        model.predict(told)


def test_preferences_are_choices(server: FinetuningServer, tmp_path: Path) -> None:
    """Chosen and rejected rows are asked in both orders, and answered by a or b."""
    rows = [{"prompt": f"p{i}", "chosen": f"good{i}", "rejected": f"bad{i}"} for i in range(8)]
    given = records.from_rows(rows)
    found = trainer(server, tmp_path).fit(given).predict(given)
    assert isinstance(found, Predictions)
    assert ("a", "b") == found.classes
    assert {"a", "b"} == set(found.gold or ())
    assert found.gold == found.labels


def test_a_saved_model_is_the_same(server: FinetuningServer, tmp_path: Path) -> None:
    """Loaded from its folder it gives the same predictions, and no answer is asked for twice."""
    model = trainer(server, tmp_path).fit(TRAIN)
    first = model.predict(TEST)
    model.save(tmp_path / "model")
    again = registry.find("trainers", "api_finetune").load(tmp_path / "model")
    np.testing.assert_array_equal(first.probabilities, again.predict(TEST).probabilities)
    assert {1} == set(server.asked.values())
    assert model.settings == again.settings


def test_the_key_is_sent_and_stands_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in a file, an error, an output, a name or a pickle; also where the server's words repeat it."""
    import pickle

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said: list[str] = []
    with tuning(key=KEY) as server:
        made = trainer(server, tmp_path)
        model = made.fit(TRAIN)
        model.predict(TEST)
        model.save(tmp_path / "model")
        assert {f"Bearer {KEY}"} == server.authorised
        server.faults["create"] += [(400, {})]
        server.faults["look"] += [(500, {})] * 12
        for seed in (1, 2):
            with pytest.raises(ProviderError) as caught:
                made.fit(TRAIN, seed=seed)
            said.append(str(caught.value))
        server.ends, server.error = "failed", {"message": f"no quota for {KEY}"}
        with pytest.raises(ProviderError, match=r"no quota for \*\*\*") as caught:
            made.fit(TRAIN, seed=4)
        said.append(str(caught.value))
        monkeypatch.setenv("OPENAI_API_KEY", KEY + "-wrong")
        with pytest.raises(ProviderError) as caught:
            made.fit(TRAIN, seed=3)
        said.append(str(caught.value))
    said += [repr(made), repr(model), model.identity, registry.spec_of(made), *capfd.readouterr()]
    assert not [text for text in said if KEY in text]
    assert "***" in said[0]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY.encode() not in pickle.dumps(made)


def test_bad_input_is_told(server: FinetuningServer, tmp_path: Path) -> None:
    """What cannot be trained on, or would write a secret down, is refused in one line and nothing is sent."""
    made = trainer(server, tmp_path)
    with pytest.raises(InputError, match="without labels"):
        made.fit(records.from_rows([{"text": "only text"}]))
    with pytest.raises(InputError, match="'x' has an empty target"):
        made.fit(records.from_rows([{"id": "x", "source": "a", "target": " "}]))
    with pytest.raises(InputError, match="classification records are trained on"):
        made.fit(TRAIN, validation=records.from_rows([{"source": "a", "target": "b"}]))
    with pytest.raises(BadSetting, match="written into reports"):
        trainer(server, tmp_path, headers=("X-Api-Key:secret",))
    for spec in ("model=m,epochs=-1", "model=m,url=nowhere", "model=m,price=-1", "model=m,concurrency=0"):
        with pytest.raises(BadSetting):
            registry.make("trainers", f"api_finetune:{spec}")
    assert not server.seen
    (tmp_path / "state").mkdir(exist_ok=True)
    digest = made._work(Form.of(TRAIN), TRAIN, None, 0).digest
    (tmp_path / "state" / f"{digest[:40]}.json").write_text(json.dumps({"other": 1}))
    with pytest.raises(InputError, match="looked for at the server"):
        made.fit(TRAIN)


def test_a_server_without_the_api_is_told(server: FinetuningServer, tmp_path: Path) -> None:
    """Where there is no such API, or no server at all, one line says so, and the next run may try again."""
    with pytest.raises(ProviderError, match=r"answers 404 to the file; has it a fine-tuning API\?"):
        ApiFinetune("base", f"{server.url}/other", state=str(tmp_path), poll=0.001).fit(TRAIN)
    with pytest.raises(ProviderError, match=r"gave no answer .*cannot connect"):
        ApiFinetune("base", "http://127.0.0.1:9/v1", state=str(tmp_path), poll=0.001).fit(TRAIN)
    assert 0 == server.paid
