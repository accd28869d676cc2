"""Where files are transferred from and to: one kind of place a module, all of the shape of `place`.

local: a folder of the storage folder. https: a web server, downloads only. sftp, s3, azure: through fsspec, extras.
"""
