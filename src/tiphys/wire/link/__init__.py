"""What a host says to the others on its wire about addresses: ARP and neighbor discovery."""
