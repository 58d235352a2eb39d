#!/usr/bin/env bash
# rosbags finds no message of a topic whose QoS in metadata.yaml is not the one in the bag's file, and says nothing: the
# topic is listed with its number of messages, and reading it ends at once. People change or empty the QoS of
# metadata.yaml by hand, as a way round players that cannot read it. The file opened by itself gives all messages.
#
# Seen on 2026-11-29 with rosbags 0.11.9, Python 3.11, alike for MCAP and SQLite:
#   as written: 3 listed, 3 read
#   QoS emptied in metadata.yaml: 3 listed, 0 read
#   its file alone: 3 listed, 3 read
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rosbags==0.11.9 pyyaml==6.0.3 2> /dev/null
cat > "$folder/program.py" <<'PROGRAM'
import sys
from pathlib import Path

import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

store, kind, never = get_typestore(Stores.ROS2_JAZZY), "std_msgs/msg/String", QosTime(9223372036, 854775807)
qos = Qos(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.VOLATILE, never, never, QosLiveliness.AUTOMATIC,
          never, False)


def tell(what: str, bag: Path) -> None:
    with Reader(bag) as reader:
        read = sum(1 for _ in reader.messages(reader.connections))
        print(f"{what}: {sum(each.msgcount for each in reader.connections)} listed, {read} read")


for storage in StoragePlugin:
    bag = Path(sys.argv[1], storage.name)
    with Writer(bag, version=9, storage_plugin=storage) as writer:
        topic = writer.add_connection("/text", kind, typestore=store, offered_qos_profiles=[qos])
        for stamp in range(3):
            writer.write(topic, stamp, store.serialize_cdr(store.types[kind](data="text"), kind))
    tell("as written", bag)
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["topics_with_message_count"][0]["topic_metadata"]["offered_qos_profiles"] = []
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    tell("QoS emptied in metadata.yaml", bag)
    tell("its file alone", next(each for each in bag.iterdir() if each.suffix in {".mcap", ".db3"}))
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" "$folder" | tee "$folder/seen"
