"""What breaks outside of us: servers, disks, connections, whole processes; and what is left then."""
