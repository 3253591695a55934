# What makes the machine ready that example_templates_run runs the library on; $1 is the server's folder.
useradd -m -u 31017 -s /bin/bash kim
useradd -m -u 31018 -s /bin/sh sam
useradd -m -u 31019 -s /bin/sh old
useradd -r -M steward-daemon
echo 'kim:first Password 1' | chpasswd
echo 'sam:first Password 1' | chpasswd
chage -E 2020-01-01 old
groupadd -g 31500 crew
mkdir -p /srv/data/sub /var/backups /etc/steward-example
echo one > /srv/data/one; echo two > /srv/data/sub/two
dd if=/dev/zero of=/srv/data/large bs=1M count=3 2>/dev/null
: > /var/tmp/old.tmp; touch -d '40 days ago' /var/tmp/old.tmp
: > /var/tmp/new.tmp
ln -s /srv/data /var/tmp/link.tmp
{ echo 'all is well'; echo 'disk: I/O ERROR on [sda]'; echo 'all is well again'; } > /var/log/steward-example.log
gzip -c /var/log/steward-example.log > /var/log/steward-example.log.1.gz
ln -s /etc/shadow /var/log/steward-link.log
{
  for n in 1 2 3; do echo "Nov 1 00:00:0$n h sshd[9]: Failed password for root from 192.0.2.7 port 4000$n ssh2"; done
  echo 'Nov 1 00:00:09 h sshd[9]: Failed password for invalid user x from 10.9.9.9 port 1 from 192.0.2.8 port 40009 ssh2'
} > /var/log/auth.log
mkdir /etc/ssl/example
cd /etc/ssl/example
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -keyout one.key -out one.pem 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout -out other.key
chmod 600 one.key other.key
cat > /etc/init.d/steward-example <<'S'
#!/bin/sh
case $1 in
  restart) echo restarted >> /var/log/steward-example.restarts ;;
  status) [ ! -e /etc/steward-example/broken ] ;;
esac
S
chmod 755 /etc/init.d/steward-example
ssh-keygen -q -A
tar -C /srv/data -czf /var/backups/example.tar.gz --exclude=large one sub
# Somebody whose processes can be ended.
cd "$1"
setpriv --reuid=31018 --regid=31018 --clear-groups -- sleep 600 </dev/null >/dev/null 2>&1 &
