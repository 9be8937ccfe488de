"""The sandbox from the outside: as a process, with the official SDK and real deliveries."""
