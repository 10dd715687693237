# constraints.txt is resolved for CPython 3.10 to 3.13 on Linux (tool.uv.environments in pyproject.toml), and uv repeats
# that on every line. Drop it: what stays are the markers that tell one pin from another.
s/ and (python_full_version < '3\.14'|sys_platform == 'linux'|implementation_name == 'cpython')//g
s/ ; (python_full_version < '3\.14'|sys_platform == 'linux'|implementation_name == 'cpython') and / ; /
s/ ; (python_full_version < '3\.14'|sys_platform == 'linux'|implementation_name == 'cpython')( |$)/\2/
