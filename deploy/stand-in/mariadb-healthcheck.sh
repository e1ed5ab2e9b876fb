#!/bin/sh
# Whether the server takes connections over TCP, which it does not while the database is made. Whoever it lets in is of no matter.
exec mariadb-admin --no-defaults --protocol tcp --host 127.0.0.1 ping
