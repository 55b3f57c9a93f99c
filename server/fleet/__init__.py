"""One command onto many replicas: which offset answers is one record in a store, and every replica converges to it.

    operator → activate on any replica → prepare: every live replica has the weights
                                       → commit: the record's next generation, by compare-and-set
                                       → wait: every replica holds it, or is fenced
    every replica → contact: tell how I am, read the record → load what is missing → one assignment → tell again

`record`: the record, and how one replica's change is merged into it. `standing`: may this replica answer, a pure state
machine. `presence`: what replicas tell of themselves, and which of them are alive. `stores/`: a shared folder, Redis.
`journal`: where the registry of a replica writes its changes, which is the store. `following`: the registry brought to
the record. `replica`: the loop that does it. `offsets`: what requests and operators ask, `ports.Offsets`.

**Why no clock of another machine counts.** A replica may answer for `contact_s` after a contact, counted on its own
clock from before the contact began. So whoever changed the record and then waited `contact_s` by its own clock knows
that every replica that has not read the new record is fenced, whatever the time of day is anywhere. It need not wait
that long: a replica writes its presence before it reads the record, so one that has read an older record stands in the
list of presences that is read after the change, and its next presence says what it holds. A presence is taken for dead
when its count of contacts has not moved for more than `contact_s` while another replica watched it by its own clock.
Times of day are shown to people and decide nothing. Only rates matter: a clock that runs a twentieth too fast or too
slow is allowed for (`presence.PATIENCE`).
"""
