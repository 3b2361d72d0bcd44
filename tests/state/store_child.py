"""A writer to be killed: counts each event of a partition once, and prints the offsets that were acknowledged."""

import sys

from upwell.state import Batch, Conflict, StoreDown, open_store

store = open_store(sys.argv[1], timeout_s=2)
at = store.offsets().get("p", 0)
print("from", at, flush=True)
while True:
    batch = Batch(offsets={"p": (at, at + 5)})
    for event in range(at, at + 5):
        batch.add("content", f"c{event % 3}", {"n": 1})
        batch.put("user", f"u{event % 50}", b"%d" % event * 40, owner=f"u{event % 50}")
        batch.append("history", f"u{event % 7}", b"%d" % event)
    while True:
        try:
            store.write(batch)
        except StoreDown:
            if len(sys.argv) > 2:  # the server is killed, not we: try again until it is back
                continue
            raise
        except Conflict as conflict:  # the answer was lost, the write was not
            if conflict.stored != at + 5:
                raise
        break
    at += 5
    print("acknowledged", at, flush=True)
