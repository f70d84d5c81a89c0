"""What a worker makes of a command that another worker with the same repository carries out at the same moment."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.control import Rollback
from dwcp_stream.keys import public_text
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.promotion import promote
from dwcp_stream.settings import Settings
from tests.integration import probe
from topologies import control
from topologies.control import ControlReader


async def nothing(_error: BaseException) -> None:
    """Stand for the app's way to stop."""


def test_a_rollback_that_another_worker_has_just_done_is_no_failure(tmp_path, monkeypatch) -> None:
    stream = probe.write_definition(tmp_path / "streams", "t")
    probe.publish_model(tmp_path / "models", stream)
    probe.publish_model(tmp_path / "models", stream, alias=None)
    repository = ModelRepository(tmp_path / "models")
    promote(repository, probe.MODEL, 2)
    settings = Settings(control={"keys": {"alice": public_text(Ed25519PrivateKey.generate())}})
    reader = ControlReader(settings, stream, repository, lambda *_: None, lambda: None, nothing)
    move = control.rollback

    def late(*given, **more):
        move(*given, **more)  # the other worker
        return move(*given, **more)

    monkeypatch.setattr(control, "rollback", late)
    assert reader._go_back(Rollback(probe.MODEL, 2), 2, "alice", "") == "1 already"
    assert repository.aliases(probe.MODEL)["champion"] == 1
