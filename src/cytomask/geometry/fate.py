"""What is known of a proposal among its competitors; see :meth:`cytomask.models.segmenter.Segmenter.settle`."""

from __future__ import annotations

#: Not known yet: it hangs on proposals that are not known yet either.
OPEN = 0
#: It survives, whatever the fate of the others.
KEPT = 1
#: A better one that is kept takes its place.
DROPPED = 2
