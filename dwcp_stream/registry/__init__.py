"""The model repository: manifests, verification, aliases, publishing.

What belongs here decides which bytes may become a model and which version a name means. Running a model is
`dwcp_stream.scoring`; making one is `dwcp_stream.training`; moving aliases on evidence is the decider's work.
"""

from dwcp_stream.registry.aliases import ALIASES, Alias
from dwcp_stream.registry.golden import make_golden
from dwcp_stream.registry.manifest import Manifest, ModelField
from dwcp_stream.registry.repository import ModelRepository
from dwcp_stream.registry.verify import Verification

__all__ = ["ALIASES", "Alias", "Manifest", "ModelField", "ModelRepository", "Verification", "make_golden"]
