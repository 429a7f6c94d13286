"""Source translations of nftables, iptables-nft and ipsets: for people, never imported by an agent."""
