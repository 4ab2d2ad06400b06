"""Vouchers: stamps for applicants without an account, behind a code that is bought elsewhere."""
