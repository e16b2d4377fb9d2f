# Windows: makes the two directory links that the Supabase CLI needs, as junctions, which need no administrator.
# Git without symlinks checks them out as small text files: those are replaced.
$ErrorActionPreference = "Stop"
$root = Split-Path -Parent $PSScriptRoot
foreach ($name in "migrations", "functions") {
  $link = Join-Path $root "supabase\$name"
  $target = Join-Path $root $name
  if (-not (Test-Path $target -PathType Container)) { throw "$target is not there: run this in a clone of Atlas" }
  $found = Get-Item $link -ErrorAction SilentlyContinue -Force
  if ($found -and $found.LinkType) { Write-Output "supabase\$name is a link already"; continue }
  if ($found -and $found.PSIsContainer) { throw "$link is a folder of its own: move what is in it, and remove it" }
  if ($found) { Remove-Item $link -Force }
  New-Item -ItemType Junction -Path $link -Target $target | Out-Null
  Write-Output "supabase\$name -> $name"
}
