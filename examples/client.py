"""A page on the command line: a list for a visitor, re-ordered after each item that is typed.

liverank up --headless &
python examples/client.py --gateway http://127.0.0.1:8090    # its page is a gateway; or over Kafka, by LIVERANK_BROKERS
"""

from __future__ import annotations

import argparse
import sys
import uuid

from liverank.client import Candidate, CandidateList, Client, Interaction, LiverankError

ITEMS = ("tea", "coffee", "cocoa", "mug", "kettle")
WAIT_S = 5.0


def main() -> None:
    """Show the list, read a click, show the list again, until the input ends."""
    parser = argparse.ArgumentParser(description="Show a list that re-orders as you click.")
    parser.add_argument("--gateway", help="its address; else Kafka, by LIVERANK_BROKERS")
    visitor = f"visitor-{uuid.uuid4().hex[:8]}"
    page = CandidateList(request_id="page-1", user_id=visitor, items=[Candidate(item_id=item) for item in ITEMS])
    with Client(parser.parse_args().gateway) as client:
        clicks: list[Interaction] = []
        while True:
            found = client.rank(page, clicks, within_s=WAIT_S)
            lines = found.ranking.items if found.ranking is not None else page.items
            print(", ".join(line.item_id for line in lines), "(not up to date)" if found.stale else "")
            item = sys.stdin.readline().strip()
            if not item:
                return
            clicks = [Interaction(user_id=visitor, item_id=item, action="click", request_id="page-1")]


if __name__ == "__main__":
    try:
        main()
    except LiverankError as error:
        sys.exit(f"error: {error}")
