from __future__ import annotations

from classaug_ros.node.worker import LOG_PERIOD, ThrottledLog


def test_a_period_has_one_line_and_the_next_one_tells_of_the_others() -> None:
    lines: list[str] = []
    log = ThrottledLog("front", lines.append)
    for number in range(3):
        log.add(10 + number, f"frame refused: {number}")
    log.add(10 + LOG_PERIOD, "frame refused: late")
    log.add(10 + 2 * LOG_PERIOD, "frame refused: last")
    assert lines == [
        "camera front: frame refused: 0",
        "camera front: frame refused: late (2 more since the last line)",
        "camera front: frame refused: last",
    ]
