"""The files that containers and clusters are made from, held to what the programs really take."""
