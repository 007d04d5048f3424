#!/usr/bin/env bash
# Make the secrets of a shared MLflow server, once: make_secrets.sh FOLDER NAME
# NAME is what clients call the server, as mlflow.example.org; its certificate signs itself. Put
# tls.key and tls.crt of your own authority in their place where there is one.
set -euo pipefail
folder=${1:?a folder that is not there yet} name=${2:?the name of the server}

# The folder is closed to others. Its files are not: containers read them as users of their own.
mkdir -m 700 "$folder"
for secret in database_password store_key admin_password flask_key; do
  openssl rand -hex 24 > "$folder/$secret"
done
openssl req -x509 -newkey rsa:3072 -nodes -days 365 -keyout "$folder/tls.key" \
  -out "$folder/tls.crt" -subj "/CN=$name" \
  -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" 2> "$folder/openssl.log"
rm "$folder/openssl.log"
chmod 444 "$folder"/*
