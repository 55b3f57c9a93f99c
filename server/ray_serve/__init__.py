"""deltaserve under Ray Serve: one deployment, in which every replica is one of a fleet.

`deployment`: what Ray imports, `deltaserve.server.ray_serve.deployment:app`; with `routing` and `local` the only files
that import Ray. `options`: what Ray must know of the settings. `replica`: one replica, as Ray asks it. `wishes`: the
desired offset of Ray's `user_config`, given to the fleet. `routing`: which replica gets a request. `loopback`: without
keys only this machine may ask. `local`: a Ray of this machine alone, to try a Serve config with.

Ray starts, ends, counts and chooses replicas. What they answer with is the fleet's matter (`server/fleet`): a swap by
Ray itself would hold up each replica in turn, and nobody would know when it holds everywhere.
"""
