# Sends what the gem `pusher` 2 sends for `client.get`, `post`, `trigger` and `trigger_batch`: the signature over the parameters as
# they are, sorted by their names in lower case, with the body's MD5 among them; the query form-encoded, blanks
# as `+`; 200 gives the answer with symbols as its first keys, 202 true, anything else an exception. The gem
# itself comes through RubyGems only.

require 'digest/md5'
require 'json'
require 'net/http'
require 'openssl'
require 'uri'

class ApiError < StandardError; end
class AuthenticationError < ApiError; end

# A list's values go out one by one, as `key[]`.
def pairs(params)
  params.flat_map do |key, value|
    value.is_a?(Array) ? value.map { |one| ["#{key}[]", one.to_s] } : [[key.to_s, value.to_s]]
  end
end

def signed(app, verb, path, params)
  params = params.transform_keys { |key| key.to_s.downcase }
  params.update('auth_version' => '1.0', 'auth_key' => app['key'], 'auth_timestamp' => Time.now.to_i.to_s)
  query = pairs(params.sort).map { |pair| pair.join('=') }.join('&')
  text = [verb, path, query].join("\n")
  params.merge('auth_signature' => OpenSSL::HMAC.hexdigest('SHA256', app['secret'], text))
end

def request(app, port, verb, path, params, body = nil)
  path = "/apps/#{app['id']}#{path}"
  headers = { 'X-Pusher-Library' => 'pusher-http-ruby 2.0.3' }
  if body
    params = params.merge('body_md5' => Digest::MD5.hexdigest(body))
    headers['Content-Type'] = 'application/json'
  end
  target = "#{path}?#{URI.encode_www_form(pairs(signed(app, verb, path, params)))}"
  answer = Net::HTTP.start('127.0.0.1', port) { |http| http.send_request(verb, target, body, headers) }
  understood(answer.code.to_i, answer.body.to_s.force_encoding('UTF-8').chomp, path)
end

def understood(status, body, path)
  case status
  when 200 then JSON.parse(body).transform_keys(&:to_sym)
  when 202 then true
  when 400 then raise ApiError, "Bad request: #{body}"
  when 401 then raise AuthenticationError, body
  when 404 then raise ApiError, "404 Not found (#{path})"
  when 413 then raise ApiError, 'Payload Too Large > 10KB'
  else raise ApiError, "Unknown error (status code #{status}): #{body}"
  end
end

# The caller's options come first.
def event(channels, name, data, params = {})
  params.merge(name: name, channels: Array(channels), data: data.is_a?(String) ? data : JSON.generate(data))
end

def batch(events)
  { batch: events.map { |event| event.merge('data' => JSON.generate(event['data'])) } }
end

$stdout.sync = true
$stdin.set_encoding('UTF-8')
$stdin.each_line do |line|
  command = JSON.parse(line)
  app, port, method, args = command.values_at('app', 'port', 'method', 'args')
  report = { id: command['id'] }
  begin
    report[:ok] =
      case method
      when 'post' then request(app, port, 'POST', args[0], {}, JSON.generate(args[1]))
      when 'get' then request(app, port, 'GET', *args)
      when 'trigger' then request(app, port, 'POST', '/events', {}, JSON.generate(event(*args)))
      when 'trigger_batch' then request(app, port, 'POST', '/batch_events', {}, JSON.generate(batch(args[0])))
      end
  rescue ApiError => error
    report[:error] = "#{error.class}: #{error.message}"
  end
  puts JSON.generate(report)
end
