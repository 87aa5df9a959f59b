"""Sources turn a model reference into headers, then into bytes.

A folder, a repository on the Hub and tensors in memory are read through one seam, `Source`; where a
finished merge lies, a folder or a repository, through another, `Site`. What
comes from a model is a stranger's word: headers, indexes, names and links are checked before
anything relies on them, and no weight is read before all of them were. Pickles are never opened.
"""

from mdm_kit.sources.folder import FolderSource
from mdm_kit.sources.folder_site import FolderSite
from mdm_kit.sources.hub import HubSource
from mdm_kit.sources.hub_names import is_repo_id
from mdm_kit.sources.hub_site import HubSite
from mdm_kit.sources.joined_site import KEPT_FOLDER, JoinedSite
from mdm_kit.sources.loan import Loan
from mdm_kit.sources.memory import MemorySource
from mdm_kit.sources.opening import open_site, open_source
from mdm_kit.sources.safetensors_header import Header, header_length, parse_header
from mdm_kit.sources.seam import Checkpoint, CheckpointFile, Origin, Source, Standing
from mdm_kit.sources.side_files import LEGAL, is_side_file
from mdm_kit.sources.site import Site, SiteFile
from mdm_kit.sources.streams import AHEAD_NBYTES, Streams, gap_nbytes, window_nbytes

__all__ = [
    "AHEAD_NBYTES",
    "KEPT_FOLDER",
    "LEGAL",
    "Checkpoint",
    "CheckpointFile",
    "FolderSite",
    "FolderSource",
    "Header",
    "HubSite",
    "HubSource",
    "JoinedSite",
    "Loan",
    "MemorySource",
    "Origin",
    "Site",
    "SiteFile",
    "Source",
    "Standing",
    "Streams",
    "gap_nbytes",
    "header_length",
    "is_repo_id",
    "is_side_file",
    "open_site",
    "open_source",
    "parse_header",
    "window_nbytes",
]
