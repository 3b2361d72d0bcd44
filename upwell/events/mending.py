"""What a crash leaves behind, put right; what is more than that, told."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from upwell.events import files
from upwell.events.frames import Stop, decode, next_whole
from upwell.events.port import Corrupt

log = logging.getLogger(__name__)
