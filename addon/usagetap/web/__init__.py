"""The dashboard: pages about table `usage`, under mitmweb's login, standalone, or through the proxy."""
