"""relto runs information-sharing pacts: agreements as code that parties prove, sign and enforce."""
