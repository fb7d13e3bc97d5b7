"""The servers a checkout develops against: one PostgreSQL, a cache Redis and a queue Redis.

Each of the three comes from the first of these that is possible:

1. named by the caller (ZMSG_POSTGRES_DSN, ZMSG_REDIS_ADDR, ZMSG_QUEUE__ADDR): checked to be reachable,
   otherwise left alone;
2. a private instance of the machine's binaries, on a loopback port of its own, with its files under
   `.servers` of the checkout (see `home` for the one exception);
3. the same after installing the Debian packages, when we are root or may become root without a password;
4. a container of docker-compose.yml;
5. an error that names the packages to install.

Two Redis, because a cache wants eviction and no disk, and a durable queue wants neither of these.

Rules of this package: the standard library alone, since it runs before anything is installed; every command may
be repeated or run twice at once (one file lock per checkout); what is found on disk is believed only as far as a
live process confirms it, so a `kill -9` or a reboot needs no cleaning up.

    report      what is told to the user, and the one kind of failure
    account     which user the servers run as
    home        where their files are, and the lock
    process     ports, liveness, stopping
    binaries    finding the programs of the machine, installing them
    named       checking a server that the caller named
    postgres    the private PostgreSQL
    redis       a private Redis
    compose     containers
    fleet       decides per server which of these it is
"""
