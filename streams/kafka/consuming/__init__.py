"""How inputs and changelogs are read: the group's part of it by aiokafka, the records by librdkafka."""
