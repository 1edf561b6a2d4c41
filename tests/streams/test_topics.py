"""Six topics, all under one prefix."""

from streams.topics import TOPICS


def test_the_six_topics_of_lumiwatch():
    assert len(set(TOPICS)) == 6
    assert all(topic.startswith("lumiwatch.") for topic in TOPICS)
