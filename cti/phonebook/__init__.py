"""The phone index as a phonebook for desk phones: by LDAP, and as the makers' XML."""
