function [header, payload] = haltere_message(hSI, source)
% HALTERE_MESSAGE  The two parts of a message for haltere from ScanImage's last frame: a JSON header, and the pixels as bytes.
%
% Number, plane and time of the frame are ScanImage's own, as they stand in its TIFF files. Both parts are empty where there is no frame to send:
% no channel is shown, or the frame was acquired while a fast z actuator flew back.
%
% It opens no socket and calls no Java, so that it also runs in GNU Octave.

header = '';
payload = zeros(1, 0, 'uint8');

% One cell per channel: lines x pixels, int16, negative values allowed.
stripe = hSI.hDisplay.lastFrame;
channels = find(~cellfun(@isempty, stripe));
if isempty(channels), return; end
if numel(channels) > 2, channels = channels(1:2); end     % haltere accepts one or two channels

% The planes of a volume, and the one of this frame.
data = hSI.hDisplay.lastStripeData;
depths = hSI.hStackManager.zs;
plane = '';
if numel(depths) > 1
    if isempty(data.roiData), return; end
    depth = data.roiData{1}.zs;
    if isempty(depth) || isnan(depth(1)), return; end
    [~, index] = min(abs(depths - depth(1)));
    plane = sprintf('"plane":%d,', index - 1);
end

% Seconds since the acquisition began, on ScanImage's clock, of the frame's begin.
time = '';
if ~isempty(data.frameTimestamp) && isfinite(data.frameTimestamp)
    time = sprintf('"timestamp_ns":%.0f,"clock":"device","stamp":"start",', data.frameTimestamp * 1e9);
end

pixels = stripe{channels(1)};
[height, width] = size(pixels);
shape = sprintf('[%d,%d]', height, width);
if numel(channels) == 2
    % Column-major with the channel as FIRST index: [2,h,w] in order "F" means that the channel varies fastest.
    pixels = permute(cat(3, pixels, stripe{channels(2)}), [3 1 2]);
    shape = sprintf('[2,%d,%d]', height, width);
end

% Each acquisition is a new series, in which ScanImage counts its frames from 1.
header = sprintf('{"dtype":"int16","shape":%s,"order":"F","frame":%d,%s%s"source":"%s","series":"acq-%05d"}', ...
    shape, hSI.hDisplay.lastFrameNumber, plane, time, source, hSI.hScan2D.logFileCounter);
payload = typecast(reshape(int16(pixels), 1, []), 'uint8');
end
