"""The way of an input, a file a step: agents, intake, handler, batcher, rankings, examples.

`agents` hands chunks over, `intake` takes the records that are next in line, `handler` decodes and folds them and
queues `jobs`, `batcher` feeds the scorer's thread, `rankings` ranks and sends, `examples` attributes what happened to
what was shown (`windows`: lists whose time is up). `items` is the same for the catalogue, `dead_letters` for what is
refused.
"""
