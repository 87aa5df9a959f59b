"""Sources turn a model reference into headers, then into bytes.

A folder, a repository on the Hub and tensors in memory are read through one seam, `Source`. What
comes from a model is a stranger's word: headers, indexes, names and links are checked before
anything relies on them, and no weight is read before all of them were. Pickles are never opened.
"""

from mdm_kit.sources.folder import FolderSource
from mdm_kit.sources.hub import HubSource
from mdm_kit.sources.loan import Loan
from mdm_kit.sources.memory import MemorySource
from mdm_kit.sources.opening import open_source
from mdm_kit.sources.safetensors_header import Header, header_length, parse_header
from mdm_kit.sources.seam import Checkpoint, CheckpointFile, Origin, Source
from mdm_kit.sources.side_files import is_side_file

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "FolderSource",
    "Header",
    "HubSource",
    "Loan",
    "MemorySource",
    "Origin",
    "Source",
    "header_length",
    "is_side_file",
    "open_source",
    "parse_header",
]
